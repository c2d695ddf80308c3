// Copies of pages: through a buffer, so that what is summed is what is written,
// whoever writes to the source meanwhile.

#include "host/page_copy.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "host/crc32.h"
#include "host/fault_guard.h"
#include "host/pages.h"

namespace membacking {
namespace {

/// Bytes that are read before they are written: they stay in the cache.
constexpr uint64_t kBufferSize = uint64_t{1} << 17;

/// Reads whole pages. As in a mapping, the page in which the file ends has zeroes behind that.
Failure readPages(const FilePlace& from, uint64_t offset, uint8_t* into, uint64_t length) {
  for (uint64_t done = 0; done != length;) {
    const auto at = static_cast<off_t>(from.offset + offset + done);
    const ssize_t count = ::pread(from.file.get(), into + done, length - done, at);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return failedCall("pread");
    done += static_cast<uint64_t>(count);
    if (count != 0) continue;
    const uint64_t missing = (kPageSize - done % kPageSize) % kPageSize;
    if (missing == 0) return {ENXIO, "pread", "the file ends before"};
    std::fill_n(into + done, missing, uint8_t{0});
    done += missing;
  }
  return kDone;
}

/// Bytes for which it is worth while to ask whether they are in memory.
constexpr uint64_t kMany = uint64_t{1} << 16;

/// Reads whole pages through a mapping, which is cheaper than the kernel's way page by page. False where it is not,
/// where that would make pages resident, or not all are there.
bool viewPages(const Mapping& view, uint64_t offset, uint8_t* into, uint64_t length) {
  uint64_t done = 0;
  if (length < kMany || !areResident(view, offset, length)) return false;
  guardedRead(into, view.addressOf(offset), length, done);
  return done == length;
}

Failure writePages(const FilePlace& to, uint64_t offset, const uint8_t* from, uint64_t length) {
  for (uint64_t done = 0; done != length;) {
    const auto at = static_cast<off_t>(to.offset + offset + done);
    const ssize_t count = ::pwrite(to.file.get(), from + done, length - done, at);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return failedCall("pwrite");
    done += static_cast<uint64_t>(count);
  }
  return kDone;
}

/// Lets a disk begin with what was written, so that whoever syncs the file waits for less.
void beginWriting(const FilePlace& to, const std::vector<Stretch>& written) {
  if (!to.file.isOpen() || written.empty()) return;
  const Stretch& last = written.back();
  const auto start = static_cast<off_t>(to.offset + written.front().offset);
  const auto end = static_cast<off_t>(to.offset + last.offset + last.length);
  ::sync_file_range(to.file.get(), start, end - start, SYNC_FILE_RANGE_WRITE);
}

bool isZeroes(const uint8_t* page) { return page[0] == 0 && std::memcmp(page, page + 1, kPageSize - 1) == 0; }

/// Pages up to `end`, from `at` on, that are all left out, or all not: the offset behind them.
uint64_t runEnd(const uint8_t* bytes, uint64_t at, uint64_t end, bool areZeroes) {
  while (at != end && isZeroes(bytes + at) == areZeroes) at += kPageSize;
  return at;
}

}  // namespace

Failure PageCopy::run(std::vector<Stretch>& copied, uint32_t& crc32) const {
  // Fresh memory would cost a fault for each page: every thread keeps its own.
  static thread_local std::vector<uint8_t> buffer(kBufferSize);
  uint8_t* const bytes = buffer.data();
  for (const Stretch& stretch : stretches) {
    for (uint64_t done = 0; done != stretch.length;) {
      const uint64_t offset = stretch.offset + done;
      const uint64_t length = std::min(stretch.length - done, kBufferSize);
      if (view == nullptr || !viewPages(*view, from.offset + offset, bytes, length)) {
        if (const Failure failure = readPages(from, offset, bytes, length)) return failure;
      }
      for (uint64_t at = 0; at != length;) {
        const uint64_t start = leavesZeroesOut ? runEnd(bytes, at, length, true) : at;
        at = leavesZeroesOut ? runEnd(bytes, start, length, false) : length;
        if (at == start) continue;
        crc32 = membacking::crc32(crc32, bytes + start, at - start);
        appendStretch(copied, offset + start, at - start);
        if (!to.file.isOpen()) continue;
        if (const Failure failure = writePages(to, offset + start, bytes + start, at - start)) return failure;
      }
      done += length;
    }
  }
  beginWriting(to, copied);
  return kDone;
}

}  // namespace membacking
