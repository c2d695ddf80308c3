// Watched VA spaces: which pieces one shows, so that what is written at an address is known as a page of an object.
#pragma once

#include <cstdint>
#include <memory>

#include "host/object.h"
#include "host/reservation.h"
#include "host/write_watch.h"
#include "sinks/shown_pieces.h"

namespace membacking {

/// Pieces of one VA space, watched for writes: what is written there is noted at its object. A piece that the kernel
/// does not watch counts as written as a whole whenever somebody asks. Objects that cannot be watched, as nobody may
/// write to them or their driver gives them, are left out.
class WatchedSpace {
 public:
  WatchedSpace(const std::shared_ptr<Reservation>& reservation, std::shared_ptr<WriteWatch> watch)
      : reservation_(reservation), watch_(std::move(watch)) {}

  static bool canWatch(const MemoryObject& object) {
    return object.isWritable && object.fileKind != FileKind::kDriver;
  }
  /// Calls `what(object)` for the object of each piece that is not watched.
  template <typename Do>
  void eachUnwatched(Do what) {
    for (const auto& [start, piece] : pieces_) {
      if (piece.watch == nullptr) what(*piece.object);
    }
  }

  // Ranges are whole pages inside of the VA space, and of one stretch but where anything is said of "any".

  /// Begins to watch a range that shows `object` from `offset` on: pages written from now on.
  void show(uint64_t gpa, uint64_t length, const std::shared_ptr<MemoryObject>& object, uint64_t offset, Use use);
  /// Forgets what a range has shown. Of what was written there since it was asked for last, nothing is noted.
  void forget(uint64_t gpa, uint64_t length) { pieces_.forget(gpa, length); }
  /// Says what may be done with the pieces of a range from now on.
  void setUse(uint64_t gpa, uint64_t length, Use use) { pieces_.setUse(gpa, length, use); }

  /// Keeps everybody from writing to a range, and notes what was written there. A failure has changed nothing, or says
  /// that it has.
  Failure holdWrites(uint64_t gpa, uint64_t length);
  /// Takes holdWrites() back.
  Failure letWrite(uint64_t gpa, uint64_t length);

  /// Notes what was written in any range since it was asked for last.
  void noteWritten(uint64_t gpa, uint64_t length);
  /// Notes what was written anywhere.
  void noteAll();

 private:
  Reservation::Share stretchOf(uint64_t gpa) const;
  Failure protect(uint64_t gpa, uint64_t length, Use most);
  WriteWatch* arm(uint64_t gpa, uint64_t length, const MemoryObject& object);
  void noteArmed(WriteWatch& watch, const HostRange& stretch, uint64_t gpa, uint64_t end);
  void notePages(ShownPieces::Pieces::iterator& at, uint64_t gpa, uint64_t length);

  const std::shared_ptr<Reservation> reservation_;
  const std::shared_ptr<WriteWatch> watch_;
  ShownPieces pieces_;
};

}  // namespace membacking
