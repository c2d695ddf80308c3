// Locks on guest memory that is there.
#pragma once

#include <cstdint>

#include "host/guest_access.h"
#include "host/locks.h"

namespace membacking {

/// A lock that was taken.
struct TakenLock {
  uint64_t id = 0;
  /// Whether plain instructions may read and write all of it, as long as it is held.
  bool isPlain = true;
};

/// Locks ranges, each in one stretch, and makes sure that all of them may be accessed so.
AccessResult lockMemory(Reservation& reservation, Locks::Lock lock, TakenLock& taken);

}  // namespace membacking
