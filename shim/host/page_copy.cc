// Copies of pages: through a buffer, so that what is summed is what is written,
// whoever writes to the source meanwhile.

#include "host/page_copy.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>

#include "host/crc32.h"
#include "host/fault_guard.h"
#include "host/pages.h"

namespace membacking {
namespace {

/// Bytes that are read before they are written: they stay in the cache.
constexpr uint64_t kBufferSize = uint64_t{1} << 17;

/// Reads whole pages. As in a mapping, the page in which the file ends has zeroes behind that.
Failure readPages(const FileDescriptor& file, uint64_t offset, uint8_t* into, uint64_t length) {
  for (uint64_t done = 0; done != length;) {
    const ssize_t count = ::pread(file.get(), into + done, length - done, static_cast<off_t>(offset + done));
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

/// Pages that are asked about at most, to find out of one that is wanted whether it is in memory.
constexpr uint64_t kMostAsked = 128;
/// Time that it takes to read a page otherwise.
constexpr auto kReading = std::chrono::microseconds(1);

/// Finds which pages between the first and the last of some parts are in memory; empty where that is not worth while.
/// `isQuick`: becomes false where to ask about scattered ones takes as long as to read them, since the kernel looks up
/// each page between them that is in no page table.
std::vector<uint8_t> findResident(const HostRange& view, uint64_t start, const std::vector<Stretch>& parts,
                                  bool& isQuick) {
  const Stretch& last = parts.back();
  const uint64_t span = last.offset + last.length - parts.front().offset;
  uint64_t wanted = 0;
  for (const Stretch& part : parts) wanted += part.length;
  const bool isScattered = span != wanted;
  if (isScattered && (!isQuick || span > kMostAsked * wanted)) return {};
  const auto began = std::chrono::steady_clock::now();
  std::vector<uint8_t> resident = findResident(view, start + parts.front().offset, span);
  if (isScattered) isQuick = std::chrono::steady_clock::now() - began < kReading * (wanted / kPageSize);
  return resident;
}

bool areOdd(const uint8_t* bytes, uint64_t count) {
  return std::all_of(bytes, bytes + count, [](uint8_t byte) { return (byte & 1) != 0; });
}

/// Reads whole pages through a host range, which is cheaper than the kernel's way page by page. False where not all of
/// them are there.
bool viewPages(const HostRange& view, uint64_t offset, uint8_t* into, uint64_t length) {
  uint64_t done = 0;
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

/// Whether a page is as it was; null: whether it is zeroes.
bool isAsBefore(const uint8_t* page, const uint8_t* before) {
  return before == nullptr ? isZeroes(page) : std::memcmp(page, before, kPageSize) == 0;
}

/// Pages up to `end`, from `at` on, that are all left out, or all not: the offset behind them.
uint64_t runEnd(const uint8_t* bytes, const uint8_t* before, uint64_t at, uint64_t end, bool areLeftOut) {
  while (at != end && isAsBefore(bytes + at, before == nullptr ? nullptr : before + at) == areLeftOut) at += kPageSize;
  return at;
}

/// Part of a list: a stretch, and how much of it was taken.
struct Cursor {
  size_t index = 0;
  uint64_t done = 0;
};

/// Takes what follows in a list, as much as the buffer holds.
std::vector<Stretch> takeParts(const std::vector<Stretch>& stretches, Cursor& at) {
  std::vector<Stretch> parts;
  for (uint64_t room = kBufferSize; room != 0 && at.index != stretches.size();) {
    const Stretch& stretch = stretches[at.index];
    const uint64_t length = std::min(stretch.length - at.done, room);
    parts.push_back({stretch.offset + at.done, length});
    room -= length;
    at.done += length;
    if (at.done == stretch.length) at = {at.index + 1, 0};
  }
  return parts;
}

}  // namespace

Failure PageCopy::run(std::vector<Stretch>& copied, uint32_t& crc32) const {
  // Fresh memory would cost a fault for each page: every thread keeps its own.
  static thread_local std::vector<uint8_t> buffer(kBufferSize);
  static thread_local std::vector<uint8_t> bufferOfBase;
  bool isQuick = true;
  for (Cursor at; at.index != stretches.size();) {
    const std::vector<Stretch> parts = takeParts(stretches, at);
    if (const Failure failure = read(parts, buffer.data(), isQuick)) return failure;
    if (const Failure failure = readBase(parts, bufferOfBase)) return failure;
    uint64_t done = 0;
    for (const Stretch& part : parts) {
      const uint8_t* before = base.parts.isEmpty() ? nullptr : bufferOfBase.data() + done;
      if (const Failure failure = write(part, buffer.data() + done, before, copied, crc32)) return failure;
      done += part.length;
    }
  }
  beginWriting(to, copied);
  return kDone;
}

/// Reads parts, one behind the other. `isQuick`: whether to ask what is in memory.
Failure PageCopy::read(const std::vector<Stretch>& parts, uint8_t* into, bool& isQuick) const {
  std::vector<uint8_t> resident;
  if (view != nullptr) resident = findResident(*view, from.offset, parts, isQuick);
  for (const Stretch& part : parts) {
    const auto& [offset, length] = part;
    const uint64_t first = (offset - parts.front().offset) / kPageSize;
    const bool isThere = !resident.empty() && areOdd(resident.data() + first, length / kPageSize);
    if (!isThere || !viewPages(*view, from.offset + offset, into, length)) {
      const Failure failure =
          memory != nullptr ? readMemory(part, into) : readPages(from.file, from.offset + offset, into, length);
      if (failure) return failure;
    }
    into += length;
  }
  return kDone;
}

/// Reads a part that the object has: its own pages from it, others from its file.
Failure PageCopy::readMemory(const Stretch& part, uint8_t* into) const {
  if (!from.file.isOpen()) return readOwn(part, into);
  const uint64_t end = part.offset + part.length;
  const auto isBefore = [](const Stretch& each, uint64_t offset) { return each.offset + each.length <= offset; };
  auto next = std::lower_bound(own.begin(), own.end(), part.offset, isBefore);
  for (uint64_t at = part.offset; at != end;) {
    const bool isOwn = next != own.end() && next->offset <= at;
    const uint64_t until = next == own.end() ? end : isOwn ? next->offset + next->length : next->offset;
    const Stretch run = {at, std::min(until, end) - at};
    uint8_t* const place = into + (at - part.offset);
    const Failure failure =
        isOwn ? readOwn(run, place) : readPages(from.file, from.offset + run.offset, place, run.length);
    if (failure) return failure;
    if (isOwn) ++next;
    at += run.length;
  }
  return kDone;
}

Failure PageCopy::readOwn(const Stretch& part, uint8_t* into) const {
  uint64_t done = 0;
  memory->readOnAnyThread(part.offset, into, part.length, done);
  return done == part.length ? kDone : Failure{EIO, "pread", "a part of the memory is not there"};
}

/// Reads parts of the base, if there is one, one behind the other.
Failure PageCopy::readBase(const std::vector<Stretch>& parts, std::vector<uint8_t>& into) const {
  if (base.parts.isEmpty()) return kDone;
  into.assign(kBufferSize, 0);
  uint8_t* place = into.data();
  Failure failure;
  for (const Stretch& part : parts) {
    base.parts.each(part.offset, part.offset + part.length, [&](const RangeMap<FilePart>::Range& range) {
      const auto& [file, fileOffset] = range.value;
      uint8_t* to = place + (range.start - part.offset);
      if (!failure) failure = readPages(base.files[file], fileOffset, to, range.end - range.start);
    });
    place += part.length;
  }
  return failure;
}

/// Sums and writes what is not left out of a part.
Failure PageCopy::write(const Stretch& part, const uint8_t* bytes, const uint8_t* before, std::vector<Stretch>& copied,
                        uint32_t& crc32) const {
  for (uint64_t at = 0; at != part.length;) {
    const uint64_t start = leavesOut ? runEnd(bytes, before, at, part.length, true) : at;
    at = leavesOut ? runEnd(bytes, before, start, part.length, false) : part.length;
    if (at == start) continue;
    crc32 = membacking::crc32(crc32, bytes + start, at - start);
    appendStretch(copied, part.offset + start, at - start);
    if (!to.file.isOpen()) continue;
    if (const Failure failure = writePages(to, part.offset + start, bytes + start, at - start)) return failure;
  }
  return kDone;
}

}  // namespace membacking
