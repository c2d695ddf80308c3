// Watched VA spaces: pieces that change with what is shown, and are asked for what was written.

#include "sinks/watched_space.h"

#include <algorithm>

#include "host/invariant.h"

namespace membacking {

void WatchedSpace::show(uint64_t gpa, uint64_t length, const std::shared_ptr<MemoryObject>& object, uint64_t offset,
                        Use use) {
  INVARIANT(canWatch(*object));
  WriteWatch* const watch = arm(gpa, length, *object);
  pieces_.show(gpa, {gpa + length, object, offset, use, watch});
}

/// Begins to watch a range that shows an object. Returns who does; null where the kernel does not.
WriteWatch* WatchedSpace::arm(uint64_t gpa, uint64_t length, const MemoryObject& object) {
  return watch_->arm(*stretchOf(gpa), gpa, length, object.pageOrigin());
}

/// Finds the stretch of a piece: there is one as long as something is shown.
Reservation::Share WatchedSpace::stretchOf(uint64_t gpa) const {
  Reservation::Share stretch = reservation_->find(gpa);
  INVARIANT(stretch != nullptr);
  return stretch;
}

Failure WatchedSpace::holdWrites(uint64_t gpa, uint64_t length) {
  if (Failure failure = protect(gpa, length, Use::kRead)) {
    if (letWrite(gpa, length)) return halfDone(failure);
    failure.isHalfDone = false;
    return failure;
  }
  noteWritten(gpa, length);
  return kDone;
}

Failure WatchedSpace::letWrite(uint64_t gpa, uint64_t length) { return protect(gpa, length, Use::kAll); }

/// Allows at most `most` at those parts of a range that may be written.
Failure WatchedSpace::protect(uint64_t gpa, uint64_t length, Use most) {
  const uint64_t end = gpa + length;
  for (auto at = pieces_.firstIn(gpa); at != pieces_.end() && at->first < end; ++at) {
    const auto& [start, piece] = *at;
    if (piece.use != Use::kAll) continue;
    const uint64_t from = std::max(start, gpa);
    if (const Failure failure = stretchOf(from)->protect(from, std::min(piece.end, end) - from, most)) return failure;
  }
  return kDone;
}

void WatchedSpace::noteAll() {
  for (auto& [start, piece] : pieces_) {
    if (piece.watch != nullptr) continue;
    // Armed first: what is written meanwhile is noted twice, and not missed.
    piece.watch = arm(start, piece.end - start, *piece.object);
    piece.object->noteWritten(piece.offset, piece.end - start);
  }
  noteWritten(0, UINT64_MAX);
}

void WatchedSpace::noteWritten(uint64_t gpa, uint64_t length) {
  const uint64_t end = gpa + length;
  for (auto at = pieces_.firstIn(gpa); at != pieces_.end() && at->first < end;) {
    const uint64_t from = std::max(at->first, gpa);
    uint64_t to = std::min(at->second.end, end);
    WriteWatch* const watch = at->second.watch;
    if (watch == nullptr) {
      notePages(at, from, to - from);
      ++at;
      continue;
    }
    ++at;
    // Neighbours of one stretch and one watch are asked for in one call.
    const Reservation::Share stretch = stretchOf(from);
    const uint64_t most = std::min(end, from + stretch->bytesFrom(from));
    for (; at != pieces_.end() && at->first == to && to != most && at->second.watch == watch; ++at) {
      to = std::min(at->second.end, end);
    }
    noteArmed(*watch, *stretch, from, to);
  }
}

/// Notes what was written in a range that pieces of one watch cover.
void WatchedSpace::noteArmed(WriteWatch& watch, const HostRange& stretch, uint64_t gpa, uint64_t end) {
  const auto first = pieces_.firstIn(gpa);
  auto at = first;
  const auto note = [&](uint64_t from, uint64_t length) { notePages(at, from, length); };
  if (watch.takeWritten(stretch, gpa, end - gpa, note)) return;
  for (at = first; at != pieces_.end() && at->first < end; ++at) at->second.watch = nullptr;
  at = first;
  note(gpa, end - gpa);
}

/// Notes that all pages of a range that pieces cover were written. `at`: a piece up to the one that the range begins
/// in; it becomes the one that it ends in.
void WatchedSpace::notePages(ShownPieces::Pieces::iterator& at, uint64_t gpa, uint64_t length) {
  for (const uint64_t end = gpa + length; gpa != end;) {
    while (at != pieces_.end() && at->second.end <= gpa) ++at;
    INVARIANT(at != pieces_.end() && at->first <= gpa);
    const auto& [start, piece] = *at;
    const uint64_t to = std::min(piece.end, end);
    piece.object->noteWritten(piece.offset + (gpa - start), to - gpa);
    gpa = to;
  }
}

}  // namespace membacking
