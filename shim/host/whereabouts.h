// Whereabouts of private pages: each is in one place, at home or in a VA space.
#pragma once

#include <cstdint>
#include <memory>

#include "host/host_range.h"
#include "host/range_map.h"

namespace membacking {

class Reservation;

/// Places of the pages of one private object that are not at home. The thread that carries out plans keeps it; others
/// ask it while nothing moves.
class Whereabouts {
 public:
  /// A stretch of pages that are together.
  struct Place {
    /// VA space; null at home.
    std::shared_ptr<Reservation> reservation;
    /// Stretch of the VA space, which keeps its addresses; null at home.
    std::shared_ptr<const HostRange> stretch;
    /// GPA of the first byte; means nothing at home.
    uint64_t gpa = 0;
    /// Bytes that follow each other, at least one.
    uint64_t length = 0;
    /// Whether the VA space or its stretch has gone, and the pages with it.
    bool isLost = false;

    /// Host address of the first byte. Precondition: it is in a VA space.
    uint64_t address() const { return stretch->addressOf(gpa); }
  };

  /// Notes that the pages of a range that is not empty are in `reservation` now, from `gpa` on; null: at home.
  void moved(uint64_t offset, uint64_t length, const std::shared_ptr<Reservation>& reservation, uint64_t gpa);

  /// Finds the place of the byte at `offset`, and of those behind it, at most `length`.
  Place find(uint64_t offset, uint64_t length) const;

 private:
  struct Stay {
    std::weak_ptr<Reservation> reservation;
    uint64_t gpa;

    Stay behind(uint64_t bytes) const { return {reservation, gpa + bytes}; }
  };

  /// Stays by offsets in the object.
  RangeMap<Stay> stays_;
};

}  // namespace membacking
