// Data of a memory object: the stretches that hold something.

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include "host/invariant.h"
#include "host/object.h"
#include "host/reservation.h"

namespace membacking {
namespace {

/// Entries of /proc/self/pagemap that are read at once.
constexpr uint64_t kEntries = 4096;

/// Whether an entry of /proc/self/pagemap is of a page that belongs to the mapping alone, in memory or swapped out.
bool isOwn(uint64_t entry) {
  constexpr uint64_t kOfFile = 1ull << 61;
  constexpr uint64_t kSwapped = 1ull << 62;
  constexpr uint64_t kPresent = 1ull << 63;
  return (entry & kOfFile) == 0 && (entry & (kPresent | kSwapped)) != 0;
}

}  // namespace

Failure MemoryObject::findFileData(std::vector<Stretch>& found) const {
  if (!fd.isOpen()) return kDone;
  // Another one of its own: duplicates have one position.
  const FileDescriptor file(::open(("/proc/self/fd/" + std::to_string(fd.get())).c_str(), O_RDONLY | O_CLOEXEC));
  const uint64_t fileEnd = fileOffset + size;
  for (uint64_t at = fileOffset; at < fileEnd;) {
    const off_t data = file.isOpen() ? ::lseek(file.get(), static_cast<off_t>(at), SEEK_DATA) : -1;
    if (data < 0 && file.isOpen() && errno == ENXIO) break;
    const off_t hole = data < 0 ? -1 : ::lseek(file.get(), data, SEEK_HOLE);
    const uint64_t start = data < 0 ? at : static_cast<uint64_t>(data) / kPageSize * kPageSize;
    if (start >= fileEnd) break;
    const uint64_t end = hole < 0 ? fileEnd : (static_cast<uint64_t>(hole) + kPageSize - 1) / kPageSize * kPageSize;
    at = std::min(end, fileEnd);
    appendStretch(found, start - fileOffset, at - start);
  }
  return kDone;
}

Failure MemoryObject::findOwnPages(std::vector<Stretch>& found) const {
  INVARIANT(!isShared);
  const FileDescriptor pagemap(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  if (!pagemap.isOpen()) return failedCall("open");
  uint64_t entries[kEntries];
  for (uint64_t at = 0; at < size;) {
    const Whereabouts::Place place = whereabouts.find(at, std::min(size - at, kEntries * kPageSize));
    const uint64_t hva = place.reservation ? place.reservation->mapping().base() + place.gpa : home.base() + at;
    const uint64_t count = place.isLost ? 0 : place.length / kPageSize;
    const uint64_t bytes = count * sizeof(uint64_t);
    const off_t from = static_cast<off_t>(hva / kPageSize * sizeof(uint64_t));
    const ssize_t read = ::pread(pagemap.get(), entries, bytes, from);
    if (read < 0) return failedCall("pread");
    if (static_cast<uint64_t>(read) != bytes) return {EIO, "pread", "the kernel tells less than was asked"};
    for (uint64_t page = 0; page < count; page++) {
      if (isOwn(entries[page])) appendStretch(found, at + page * kPageSize, kPageSize);
    }
    at += place.length;
  }
  return kDone;
}

}  // namespace membacking
