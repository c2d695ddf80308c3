// Data of a memory object: the stretches that hold something.

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include "host/invariant.h"
#include "host/object.h"
#include "host/pagemap.h"
#include "host/pages.h"
#include "host/reservation.h"

namespace membacking {
namespace {

/// Entries of /proc/self/pagemap that are read at once.
constexpr uint64_t kEntries = 4096;

/// Whether an entry of /proc/self/pagemap is of a page that belongs to the mapping alone, in memory or swapped out.
bool hasOwnPage(uint64_t entry) {
  return (entry & Pagemap::kOfFile) == 0 && (entry & (Pagemap::kPresent | Pagemap::kSwapped)) != 0;
}

/// Whether an entry is of a page that was swapped out, or of one that is not there and is watched for writes.
bool mayBeAbsent(uint64_t entry) {
  return (entry & Pagemap::kPresent) == 0 && (entry & Pagemap::kWriteProtected) != 0;
}

/// Whether the system has a place to swap pages out to.
bool canSwap() {
  struct sysinfo facts = {};
  return ::sysinfo(&facts) != 0 || facts.totalswap != 0;
}

/// Entries of /proc/self/pagemap of pages that follow each other, without those of pages that are not there.
class Entries {
 public:
  /// Reads the entries of `count` pages, at most kEntries, from `hva` on.
  Failure read(const Pagemap& pagemap, uint64_t hva, uint64_t count) {
    if (const Failure failure = pagemap.read(hva, count, entries_)) return failure;
    // The page tables do not say which of these two it is.
    const bool isUnsure = std::any_of(entries_, entries_ + count, mayBeAbsent);
    // SAFETY: the kernel looks at no memory, and writes a byte a page, of which there is room for kEntries.
    void* const first = reinterpret_cast<void*>(hva);
    knowsResident_ = isUnsure && !canSwap() && ::mincore(first, count * kPageSize, resident_) == 0;
    return kDone;
  }

  bool isOwn(uint64_t page) const {
    if (knowsResident_ && mayBeAbsent(entries_[page]) && (resident_[page] & 1) == 0) return false;
    return hasOwnPage(entries_[page]);
  }

  /// Finds the pages, of `count`, that are in memory, and in no page table: those of a file that are watched, or the
  /// kernel is moving them.
  std::vector<Stretch> findUnmapped(uint64_t count) const {
    std::vector<Stretch> found;
    for (uint64_t page = 0; knowsResident_ && page < count; page++) {
      const bool isUnmapped = mayBeAbsent(entries_[page]) && (resident_[page] & 1) != 0;
      if (isUnmapped) appendStretch(found, page * kPageSize, kPageSize);
    }
    return found;
  }

 private:
  uint64_t entries_[kEntries];
  unsigned char resident_[kEntries];
  bool knowsResident_ = false;
};

/// Appends what a copy's file has had and lost, as it has become shorter: it is not zeroes, and whoever reads it hears
/// that it is not there.
void appendLost(const MemoryObject& object, std::vector<Stretch>& found) {
  struct stat facts;
  if (readFacts(object.fd.get(), facts) != 0 || !S_ISREG(facts.st_mode)) return;
  const uint64_t end = std::max(pageEnd(static_cast<uint64_t>(facts.st_size)), object.fileOffset) - object.fileOffset;
  const uint64_t start = found.empty() ? end : std::max(end, found.back().offset + found.back().length);
  if (start < object.size) appendStretch(found, start, object.size - start);
}

}  // namespace

Failure MemoryObject::findFileData(std::vector<Stretch>& found) const {
  if (lazy != nullptr) found = lazy->pager->absent(lazy->number);
  if (!fd.isOpen()) return kDone;
  // Another one of its own: duplicates have one position.
  const FileDescriptor file = fd.reopenReadOnly();
  const uint64_t fileEnd = fileOffset + size;
  for (uint64_t at = fileOffset; at < fileEnd;) {
    const off_t data = file.isOpen() ? ::lseek(file.get(), static_cast<off_t>(at), SEEK_DATA) : -1;
    if (data < 0 && file.isOpen() && errno == ENXIO) break;
    const off_t hole = data < 0 ? -1 : ::lseek(file.get(), data, SEEK_HOLE);
    const uint64_t start = data < 0 ? at : pageStart(static_cast<uint64_t>(data));
    if (start >= fileEnd) break;
    const uint64_t end = hole < 0 ? fileEnd : pageEnd(static_cast<uint64_t>(hole));
    at = std::min(end, fileEnd);
    appendStretch(found, start - fileOffset, at - start);
  }
  if (!isShared) appendLost(*this, found);
  return kDone;
}

Failure MemoryObject::findOwnPages(std::vector<Stretch>& found) const {
  if (isShared) return kDone;
  Pagemap pagemap;
  if (const Failure failure = Pagemap::open(pagemap)) return failure;
  Entries entries;
  for (uint64_t at = 0; at < size;) {
    const Whereabouts::Place place = whereabouts.find(at, std::min(size - at, kEntries * kPageSize));
    const uint64_t hva = place.reservation ? place.address() : home.addressOf(at);
    const uint64_t count = place.isLost ? 0 : place.length / kPageSize;
    if (const Failure failure = entries.read(pagemap, hva, count)) return failure;
    const std::vector<Stretch> unmapped = fd.isOpen() ? entries.findUnmapped(count) : std::vector<Stretch>();
    // Where they are mapped, the page tables say whose they are.
    for (const auto& [offset, length] : unmapped) {
      // SAFETY: inside of the object's memory. What cannot be read is left as it is, and counts as its own.
      static_cast<void>(populatePages(reinterpret_cast<void*>(hva + offset), length, false));
    }
    if (!unmapped.empty()) {
      if (const Failure failure = entries.read(pagemap, hva, count)) return failure;
    }
    for (uint64_t page = 0; page < count; page++) {
      if (entries.isOwn(page)) appendStretch(found, at + page * kPageSize, kPageSize);
    }
    at += place.length;
  }
  return kDone;
}

}  // namespace membacking
