// Guest memory: reads and writes that fail with a code, never with a signal, at holes, in read-only ranges, past the
// end, in a truncated file, while another thread changes the map.
#pragma once

#include <cstddef>
#include <cstdint>

#include "host/limits.h"
#include "host/membacking.h"

namespace membacking {

/// Errors of an access, with the numbers of membacking.h. JavaScript gets them too.
enum class AccessError : int32_t {
  kNone = MEMBACKING_OK,
  /// Past the end of the VA space.
  kOutside = MEMBACKING_OUTSIDE,
  /// Nothing is mapped there, or it may not be accessed at all.
  kHole = MEMBACKING_HOLE,
  /// A write to what may only be read.
  kReadOnly = MEMBACKING_READ_ONLY,
  /// The file behind it ends before, or the memory has failed.
  kGone = MEMBACKING_GONE,
  /// A compare-exchange at an address that is no multiple of its size.
  kMisaligned = MEMBACKING_MISALIGNED,
};

/// Outcome of an access.
struct AccessResult {
  AccessError error = AccessError::kNone;
  /// First address that cannot be accessed: bytes before it are done. Without an error, the end of the range.
  uint64_t gpa = 0;
};

/// Facts that a call hands to JavaScript beside its return value: a Float64Array of three.
struct AccessFacts {
  double low = 0;
  double high = 0;
  double gpa = 0;
};

/// Guest memory in a reservation: byte `gpa` is at HVA `base + gpa`. Whoever makes one keeps the reservation.
struct GuestMemory {
  uint64_t base;
  uint64_t size;
  const Limits& limits;

  /// Copies upwards. After an error exactly the bytes before the result's `gpa` were copied; so for write().
  AccessResult read(uint64_t gpa, uint8_t* into, size_t length) const;
  AccessResult write(uint64_t gpa, const uint8_t* from, size_t length) const;

  // Numbers have 1, 2, 4 or 8 `bytes`, little-endian. Aligned ones are single-copy atomic.
  AccessResult load(uint64_t gpa, uint32_t bytes, uint64_t& value) const;
  AccessResult store(uint64_t gpa, uint32_t bytes, uint64_t value) const;
  /// Stores `value` if `expected` is there; `expected` becomes the number that was there. Aligned only.
  AccessResult compareExchange(uint64_t gpa, uint32_t bytes, uint64_t& expected, uint64_t value) const;

 private:
  AccessError refuse(const LimitsHold& hold, uint64_t gpa, uint64_t length, bool isWrite) const;
  AccessResult explain(int signal, uint64_t gpa, bool isWrite) const;
  template <typename Copy>
  AccessResult copy(uint64_t gpa, uint64_t length, bool isWrite, Copy copy) const;
};

}  // namespace membacking
