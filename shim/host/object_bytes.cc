// Bytes of a memory object, read and written by the monitor itself, which changes nothing of what others may do: shared
// ones are read from their file, or else through a host range for the call; private ones through /proc/self/mem, which
// heeds no protection, or where they are.

#include <fcntl.h>
#include <unistd.h>

#include <shared_mutex>

#include "host/fault_guard.h"
#include "host/invariant.h"
#include "host/object.h"
#include "host/reservation.h"

namespace membacking {

/// Calls `copy(hva)` with an address at which the range is mapped until it returns.
template <typename Copy>
Failure MemoryObject::copyShared(uint64_t offset, uint64_t length, Copy copy) const {
  const uint64_t before = offset % granularity;
  const uint64_t whole = (before + length + granularity - 1) / granularity * granularity;
  const Use use = isWritable ? Use::kAll : Use::kRead;
  HostRange host;
  if (const Failure failure = HostRange::reserve(whole, "", host)) return failure;
  if (const Failure failure = showShared(host, 0, whole, use, offset - before)) return failure;
  installFaultGuard();
  copy(host.base() + before);
  return kDone;
}

/// Calls `copy(memory, hva, done, length)`, a pread or pwrite, for each stretch of the range.
template <typename Copy>
Failure MemoryObject::copyPrivate(uint64_t offset, uint64_t length, uint64_t& done, bool isWrite, Copy copy) const {
  // The kernel waits there for nobody, no pager and no watch. What cannot be brought is missing.
  static_cast<void>(fetch(offset, length));
  const FileDescriptor memory(::open("/proc/self/mem", O_RDWR | O_CLOEXEC));
  if (!memory.isOpen()) return failedCall("open");
  while (done != length) {
    const Whereabouts::Place place = whereabouts.find(offset + done, length - done);
    if (place.isLost) return kDone;
    const auto watch = place.reservation ? place.reservation->watch() : nullptr;
    const uint64_t hva = place.reservation ? place.address() : home.addressOf(offset + done);
    if (watch != nullptr) {
      watch->admit(hva, place.length, pageOrigin(), isWrite);
    } else if (lazy != nullptr && isWrite) {
      lazy->pager->letWrites(hva, place.length);
    }
    const ssize_t copied = copy(memory.get(), static_cast<off_t>(hva), done, place.length);
    if (copied <= 0) return kDone;
    done += static_cast<uint64_t>(copied);
  }
  return kDone;
}

Failure MemoryObject::read(uint64_t offset, uint8_t* into, uint64_t length, uint64_t& done) const {
  done = 0;
  if (length == 0) return kDone;
  INVARIANT(contains(offset, length));
  if (isShared) {
    // Files that end before, and drivers, are left to a host range.
    const ssize_t count = ::pread(fd.get(), into, length, static_cast<off_t>(offset));
    if (count >= 0 && static_cast<uint64_t>(count) == length) {
      done = length;
      return kDone;
    }
    return copyShared(offset, length, [&](uint64_t hva) { guardedRead(into, hva, length, done); });
  }
  return copyPrivate(offset, length, done, false, [&](int memory, off_t hva, uint64_t from, uint64_t size) {
    return ::pread(memory, into + from, size, hva);
  });
}

void MemoryObject::readOnAnyThread(uint64_t offset, uint8_t* into, uint64_t length, uint64_t& done) const {
  INVARIANT(!isShared && contains(offset, length));
  // What cannot be brought is missing.
  static_cast<void>(fetch(offset, length));
  for (done = 0; done != length;) {
    const std::shared_lock lock(moving);
    const Whereabouts::Place place = whereabouts.find(offset + done, length - done);
    if (place.isLost) return;
    const uint64_t hva = place.reservation ? place.address() : home.addressOf(offset + done);
    uint64_t copied = 0;
    guardedRead(into + done, hva, place.length, copied);
    if (copied == 0) {
      // Perhaps a protection alone stands in the way.
      const FileDescriptor memory(::open("/proc/self/mem", O_RDONLY | O_CLOEXEC));
      const ssize_t count = ::pread(memory.get(), into + done, place.length, static_cast<off_t>(hva));
      if (count <= 0) return;
      copied = static_cast<uint64_t>(count);
    }
    done += copied;
  }
}

Failure MemoryObject::write(uint64_t offset, const uint8_t* from, uint64_t length, uint64_t& done) {
  done = 0;
  if (length == 0) return kDone;
  INVARIANT(contains(offset, length));
  if (!isWritable) return {EACCES, "mmap", "the object is read-only"};
  const Failure failure =
      isShared ? copyShared(offset, length, [&](uint64_t hva) { guardedWrite(hva, from, length, done); })
               : copyPrivate(offset, length, done, true, [&](int memory, off_t hva, uint64_t start, uint64_t size) {
                   return ::pwrite(memory, from + start, size, hva);
                 });
  // At these addresses nobody watches.
  if (done != 0) noteWritten(offset, done);
  return failure;
}

Failure MemoryObject::fetch(uint64_t offset, uint64_t length) const {
  if (lazy == nullptr) return kDone;
  const uint64_t start = pageStart(offset);
  const uint64_t end = pageEnd(offset + length);
  return lazy->pager->fetch(lazy->number, start, end - start);
}

void MemoryObject::drop(uint64_t offset, uint64_t length) const {
  if (lazy != nullptr) lazy->pager->drop(lazy->number, offset, length);
}

void MemoryObject::noteWritten(uint64_t offset, uint64_t length) {
  const uint64_t start = offset & ~(granularity - 1);
  const uint64_t end = (offset + length + granularity - 1) & ~(granularity - 1);
  dirty.add(start, end - start);
}

}  // namespace membacking
