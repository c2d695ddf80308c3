// Locks on guest memory: taken first, so that no change comes in between, and then looked at.
#include "host/guest_lock.h"

#include <utility>
#include <vector>

namespace membacking {
namespace {

/// Finds out whether each page of a range can be accessed. To write, one byte of each is exchanged for itself.
AccessResult probe(const GuestMemory& access, const Locks::Range& range, bool isWrite) {
  for (uint64_t gpa = range.start;; gpa = pageLast(gpa) + 1) {
    uint64_t value = 0;
    AccessResult result = access.load(gpa, 1, value);
    if (result.error == AccessError::kNone && isWrite) result = access.compareExchange(gpa, 1, value, value);
    if (result.error != AccessError::kNone || pageLast(gpa) >= range.end - 1) return result;
  }
}

AccessResult look(Reservation& reservation, const Locks::Range& range, bool isWrite, bool& isPlain) {
  const Windows& windows = reservation.windows();
  if (windows.isLasting(reservation.limits(), range.start, range.end, Use::kAll)) return {};
  isPlain = false;
  if (!isWrite && windows.isLasting(reservation.limits(), range.start, range.end, Use::kRead)) return {};
  return probe(GuestMemory{reservation}, range, isWrite);
}

}  // namespace

AccessResult lockMemory(Reservation& reservation, Locks::Lock lock, TakenLock& taken) {
  for (const auto& [start, end] : lock.ranges) {
    if (reservation.find(start, end - start) == nullptr) return {AccessError::kOutside, start};
  }
  // What is mapped for the lock's sake would otherwise be a change of what is locked.
  for (const auto& [start, end] : lock.ranges) static_cast<void>(reservation.bring(start, end - start));
  const std::vector<Locks::Range> ranges = lock.ranges;
  const bool isWrite = lock.isWrite;
  taken.id = reservation.locks().add(std::move(lock));
  if (taken.id == 0) return {AccessError::kChanging, ranges.front().start};
  // From now on no change takes away what is found here.
  for (const Locks::Range& range : ranges) {
    const AccessResult result = look(reservation, range, isWrite, taken.isPlain);
    if (result.error == AccessError::kNone) continue;
    reservation.locks().remove(taken.id);
    return result;
  }
  return {};
}

}  // namespace membacking
