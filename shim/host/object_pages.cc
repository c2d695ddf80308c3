// Pages of a memory object, wherever it is shown: residence, node, huge pages, pins.

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <mutex>
#include <utility>

#include "host/fault_guard.h"
#include "host/invariant.h"
#include "host/object.h"
#include "host/pages.h"
#include "host/reservation.h"

namespace membacking {

Failure MemoryObject::checkRange(uint64_t offset, uint64_t length) const {
  if (!contains(offset, length)) return {EINVAL, "madvise", "the range is not inside the object"};
  if (((offset | length) & (granularity - 1)) != 0) {
    return {EINVAL, "madvise", "the range is not whole pages of the object"};
  }
  return kDone;
}

/// Calls `what(range, start)` with a host range in which the range begins at `start`: the home of private memory, for a
/// shared object one that ends with the call.
template <typename Do>
Failure MemoryObject::withPages(uint64_t offset, uint64_t length, Do what) const {
  if (!isShared) return what(home, offset);
  HostRange host;
  // Aligned so that huge pages of the object are huge pages of the range.
  const uint64_t start = offset % kHugePageSize;
  if (const Failure failure = HostRange::reserve(start + length, "", host)) return failure;
  const Use use = isWritable ? Use::kAll : Use::kRead;
  if (const Failure failure = showShared(host, start, length, use, offset)) return failure;
  return what(host, start);
}

Failure MemoryObject::showShared(HostRange& place, uint64_t at, uint64_t length, Use use, uint64_t offset) const {
  INVARIANT(isShared && contains(offset, length));
  if (const Failure failure = place.mapShared(at, length, use, fd.get(), offset, isReserved)) return failure;
  if (wantsHugePages) static_cast<void>(membacking::adviseHugePages(place, at, length));
  // Huge page files, unlike memfds, keep no policy of their own.
  if (node != kAnyNode && fileKind == FileKind::kHugePages) static_cast<void>(bindPages(place, at, length, node));
  return kDone;
}

Failure MemoryObject::leave(const std::vector<Stretch>& ranges) {
  for (const auto& [offset, length] : ranges) {
    if (const Failure failure = checkRange(offset, length)) return failure;
  }
  for (const auto& [offset, length] : ranges) {
    noteWritten(offset, length);
    drop(offset, length);
  }
  return kDone;
}

Failure MemoryObject::free(const std::vector<Stretch>& ranges, uint64_t& freed) const {
  freed = 0;
  if (!isShared) {
    Failure failure = countPrivate(home, ranges, freed);
    for (size_t i = 0; i < ranges.size() && !failure; i++) failure = discardPages(home, ranges[i].offset, ranges[i].length);
    return failure;
  }
  if (fileKind == FileKind::kDriver) return {EOPNOTSUPP, "fallocate", "a driver's memory cannot be given back"};
  uint64_t before = 0;
  uint64_t after = 0;
  uint64_t most = 0;
  if (const Failure failure = readAllocated(before)) return failure;
  for (const auto& [offset, length] : ranges) {
    const int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    if (::fallocate(fd.get(), mode, static_cast<off_t>(offset), static_cast<off_t>(length)) != 0) {
      return failedCall("fallocate");
    }
    most += length;
  }
  if (const Failure failure = readAllocated(after)) return failure;
  // Others may have touched the rest of the object meanwhile.
  freed = std::min(before - std::min(before, after), most);
  return kDone;
}

std::shared_ptr<const HostRange> MemoryObject::viewAll() {
  if (view == nullptr && isShared && isLasting && fileKind == FileKind::kMemory) {
    auto host = std::make_shared<HostRange>();
    if (HostRange::reserve(size, "", *host) || showShared(*host, 0, size, Use::kRead, 0)) return nullptr;
    installFaultGuard();
    view = std::move(host);
  }
  return view;
}

Failure MemoryObject::populate(uint64_t offset, uint64_t length) const {
  if (const Failure failure = checkRange(offset, length)) return failure;
  if (fileKind == FileKind::kDriver) return {EOPNOTSUPP, "madvise", "a driver's memory is where the driver has it"};
  return withPages(offset, length, [&](const HostRange& host, uint64_t start) -> Failure {
    const Failure failure = populatePages(host, start, length, isWritable || !isShared);
    if (failure.error == EINVAL && !isShared) {
      return {EBUSY, failure.syscall, "a part of the private memory is in a VA space"};
    }
    if (failure.error == EFAULT && isShared) return whyMissing(offset + length - kPageSize);
    if (!failure && isShared && wantsHugePages) collapsePages(host, start, length);
    return failure;
  });
}

Failure MemoryObject::whyMissing(uint64_t offset) const {
  struct stat file;
  struct statvfs system;
  if (!isShared && whereabouts.find(offset, 1).isLost) return {EIO, "mmap", "it went with the VA space that showed it"};
  if (lazy != nullptr) {
    if (const Failure lost = lazy->pager->whyLost(lazy->number, offset)) return lost;
  }
  if (!fd.isOpen()) return {ENOMEM, "madvise", "no memory is free"};
  if (readFacts(fd.get(), file) != 0) return failedCall("fstat");
  if (S_ISREG(file.st_mode) && fileOffset + offset >= static_cast<uint64_t>(file.st_size)) {
    return {ENXIO, "madvise", "its file ends before"};
  }
  if (fileKind == FileKind::kHugePages) return {ENOMEM, "madvise", "no huge page is free"};
  if (fileKind == FileKind::kDriver) return {EIO, "mmap", "its driver does not give it"};
  // File systems without blocks have no limit.
  if (::fstatvfs(fd.get(), &system) == 0 && system.f_blocks != 0 && system.f_bavail == 0) {
    return {ENOSPC, "madvise", "no space is left on its file system"};
  }
  return {EIO, "madvise", "its file system could not give it, or memory has failed"};
}

Failure MemoryObject::setNode(uint32_t wanted) {
  if (isShared && (fileKind == FileKind::kOther || fileKind == FileKind::kDriver)) {
    return {EOPNOTSUPP, "mbind", "the kernel alone decides where this file's pages are"};
  }
  // A memfd keeps the policy that any mapping of it is given.
  const Failure failure = withPages(0, size, [&](const HostRange& host, uint64_t start) {
    return bindPages(host, start, size, wanted);
  });
  if (!failure) node = wanted;
  return failure;
}

Failure MemoryObject::adviseHugePages(bool& atTouch) {
  if (fileKind == FileKind::kHugePages) return {EINVAL, "madvise", "the object is in huge pages already"};
  if (!isShared && fd.isOpen()) return {EINVAL, "madvise", "the kernel copies files page by page"};
  if (fileKind == FileKind::kDriver) return {EINVAL, "madvise", "a driver decides how large its pages are"};
  const Failure failure = withPages(0, size, [&](const HostRange& host, uint64_t start) {
    return membacking::adviseHugePages(host, start, size);
  });
  if (failure) return failure;
  wantsHugePages = true;
  const bool isMemfd = fileKind == FileKind::kMemory && !isShrinkable();
  atTouch = (isMemfd || fileKind == FileKind::kNone) && hasHugePagesAtTouch(isMemfd);
  return kDone;
}

Failure MemoryObject::pin() {
  if (isPinned) return kDone;
  if (!isShared) {
    // Says what is wrong, where mlock says ENOMEM.
    if (const Failure failure = populate(0, size)) return failure;
    if (const Failure failure = lockPages(home, 0, size)) return failure;
  } else {
    HostRange lasting;
    const Use use = isWritable ? Use::kAll : Use::kRead;
    if (const Failure failure = HostRange::reserve(size, "", lasting)) return failure;
    if (const Failure failure = showShared(lasting, 0, size, use, 0)) return failure;
    if (const Failure failure = lockPages(lasting, 0, size)) return failure;
    pinning = std::move(lasting);
  }
  isPinned = true;
  return kDone;
}

Failure MemoryObject::moveOut(uint64_t offset, const std::shared_ptr<Reservation>& to, uint64_t gpa, uint64_t length) {
  const Reservation::Share stretch = to->find(gpa, length);
  INVARIANT(stretch != nullptr);
  const std::lock_guard lock(moving);
  const Failure failure = move(home, offset, *stretch, gpa, length);
  if (const uint64_t moved = failure ? failure.moved : length) whereabouts.moved(offset, moved, to, gpa);
  return failure;
}

Failure MemoryObject::moveHome(const std::shared_ptr<Reservation>& from, uint64_t gpa, uint64_t offset,
                               uint64_t length) {
  const Reservation::Share stretch = from->find(gpa, length);
  INVARIANT(stretch != nullptr);
  const std::lock_guard lock(moving);
  const Failure failure = move(*stretch, gpa, home, offset, length);
  if (const uint64_t moved = failure ? failure.moved : length) whereabouts.moved(offset, moved, nullptr, 0);
  return failure;
}

Failure MemoryObject::move(HostRange& from, uint64_t offset, HostRange& to, uint64_t toOffset, uint64_t length) const {
  INVARIANT(!isShared);
  if (!isPinned) return from.moveTo(to, toOffset, offset, length);
  // The kernel would unlock the whole piece that the range is a part of, and count what it moves twice.
  if (const Failure failure = unlockPages(from, offset, length)) return halfDone(failure);
  if (const Failure failure = from.moveTo(to, toOffset, offset, length)) {
    const uint64_t moved = failure.moved;
    if (moved != 0) static_cast<void>(keepPages(to, toOffset, moved));
    if (moved != length) static_cast<void>(keepPages(from, offset + moved, length - moved));
    return failure;
  }
  const Failure failure = keepPages(to, toOffset, length);
  return failure ? halfDone(failure, length) : kDone;
}

Failure MemoryObject::readAllocated(uint64_t& bytes) const {
  struct stat facts;
  if (readFacts(fd.get(), facts) != 0) return failedCall("fstat");
  constexpr uint64_t kBlock = 512;
  bytes = static_cast<uint64_t>(facts.st_blocks) * kBlock;
  return kDone;
}

bool MemoryObject::isShrinkable() const {
  if (lazy != nullptr) return !lazy->pager->absent(lazy->number).empty();
  if (!fd.isOpen()) return false;
  if (mayGrow) return true;
  const int seals = ::fcntl(fd.get(), F_GET_SEALS);
  return seals < 0 || (seals & F_SEAL_SHRINK) == 0;
}

}  // namespace membacking
