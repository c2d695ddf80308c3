// Reads and writes of guest memory that fail with a code, never with a signal: at holes, in read-only ranges, past
// the end, in a truncated file, while another thread changes the map.
#pragma once

#include <cstddef>
#include <cstdint>

#include "host/limits.h"

namespace membacking {

enum class AccessError : int32_t {
  kNone = 0,
  /// Outside of the VA space.
  kOutside = -1,
  /// Nothing is mapped there, or it may not be accessed at all.
  kHole = -2,
  /// A write to what may only be read.
  kReadOnly = -3,
  /// The file behind it ends before, or the memory has failed.
  kGone = -4,
  /// A compare-exchange at an address that is no multiple of its size.
  kMisaligned = -5,
};

struct AccessResult {
  AccessError error = AccessError::kNone;
  /// The first address that cannot be accessed; bytes before it are done. Without an error: the end.
  uint64_t gpa = 0;
};

/// Facts that a call hands to JavaScript beside its return value: a Float64Array of three.
struct AccessFacts {
  double low = 0;
  double high = 0;
  double gpa = 0;
};

/// A reservation seen as guest memory: byte `gpa` is at HVA `base + gpa`. Whoever makes one keeps the reservation.
struct GuestWindow {
  uint64_t base;
  uint64_t size;
  const Limits& limits;

  /// Ascending: when it fails, exactly the bytes before `gpa` of the result were copied.
  AccessResult read(uint64_t gpa, uint8_t* into, size_t length) const;
  AccessResult write(uint64_t gpa, const uint8_t* from, size_t length) const;

  // `bytes` is 1, 2, 4 or 8; little-endian. Aligned ones are single-copy atomic.
  AccessResult load(uint64_t gpa, uint32_t bytes, uint64_t& value) const;
  AccessResult store(uint64_t gpa, uint32_t bytes, uint64_t value) const;
  /// Stores `value` if `expected` is there; `expected` becomes what was there. Aligned only.
  AccessResult compareExchange(uint64_t gpa, uint32_t bytes, uint64_t& expected, uint64_t value) const;

 private:
  AccessError refuse(uint64_t gpa, uint64_t length, bool isWrite) const;
  AccessResult explain(int signal, uint64_t gpa, bool isWrite) const;
  template <typename Copy>
  AccessResult copy(uint64_t gpa, uint64_t length, bool isWrite, Copy copy) const;
};

}  // namespace membacking
