// Guest memory: reads and writes that fail with a code, never with a signal, at holes, in read-only ranges, past the
// end, in a truncated file, while another thread changes the map.
#pragma once

#include <cstddef>
#include <cstdint>

#include "host/limits.h"
#include "host/membacking.h"
#include "host/reservation.h"

namespace membacking {

/// Errors of an access, with the numbers of membacking.h. JavaScript gets them too.
enum class AccessError : int32_t {
  kNone = MEMBACKING_OK,
  /// Past the end of all that the VA space can have.
  kOutside = MEMBACKING_OUTSIDE,
  /// Nothing is mapped there, or it may not be accessed at all.
  kHole = MEMBACKING_HOLE,
  /// A write to what may only be read.
  kReadOnly = MEMBACKING_READ_ONLY,
  /// The file behind it ends before, or the memory has failed.
  kGone = MEMBACKING_GONE,
  /// A compare-exchange at an address that is no multiple of its size.
  kMisaligned = MEMBACKING_MISALIGNED,
  /// A lock on what is being changed, or is about to be.
  kChanging = MEMBACKING_CHANGING,
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

/// Guest memory in a reservation. Whoever makes one keeps the reservation.
struct GuestMemory {
  Reservation& reservation;

  /// Copies upwards. After an error exactly the bytes before the result's `gpa` were copied; so for write().
  AccessResult read(uint64_t gpa, uint8_t* into, size_t length) const;
  AccessResult write(uint64_t gpa, const uint8_t* from, size_t length) const;

  // Numbers have 1, 2, 4 or 8 `bytes`, little-endian. Aligned ones are single-copy atomic.
  AccessResult load(uint64_t gpa, uint32_t bytes, uint64_t& value) const;
  AccessResult store(uint64_t gpa, uint32_t bytes, uint64_t value) const;
  /// Stores `value` if `expected` is there; `expected` becomes the number that was there. Aligned only.
  AccessResult compareExchange(uint64_t gpa, uint32_t bytes, uint64_t& expected, uint64_t value) const;

 private:
  /// Host addresses of guest memory from a byte on, in one stretch; none where no stretch has that byte. Those behind
  /// the first stretch stay as long as this has a share of theirs.
  struct HostBytes {
    uint64_t hva = 0;
    uint64_t length = 0;
    Reservation::Share share;
  };

  HostBytes at(uint64_t gpa, uint64_t length) const;
  AccessError errorBehind(uint64_t gpa) const;
  AccessError errorOfCut(uint64_t gpa, const HostBytes& range, uint32_t bytes) const;
  AccessError refuse(const LimitsHold& hold, uint64_t gpa, uint64_t length, bool isWrite) const;
  template <typename Copy>
  AccessResult across(uint64_t gpa, const HostBytes& range, uint32_t bytes, Copy copy) const;
  template <typename Access>
  AccessResult bringing(uint64_t gpa, uint64_t length, Access access) const;
  template <typename Access>
  AccessResult bringingNumber(uint64_t gpa, uint32_t bytes, Access access) const;
  // As the functions above without "Now", of what is mapped already.
  AccessResult loadNow(uint64_t gpa, uint32_t bytes, uint64_t& value) const;
  AccessResult storeNow(uint64_t gpa, uint32_t bytes, uint64_t value) const;
  AccessResult exchangeNow(uint64_t gpa, uint32_t bytes, uint64_t& expected, uint64_t value) const;
  template <typename Copy>
  AccessResult copy(uint64_t gpa, uint64_t length, bool isWrite, Copy copy) const;
};

}  // namespace membacking
