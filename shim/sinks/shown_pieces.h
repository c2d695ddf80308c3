// Pieces that a VA space shows, of this process or of another one, as commands have made them.
#pragma once

#include <cstdint>
#include <map>
#include <memory>

#include "host/object.h"
#include "host/use.h"

namespace membacking {

/// A stretch of a VA space that shows one object.
struct ShownPiece {
  uint64_t end;
  std::shared_ptr<MemoryObject> object;
  /// Offset in the object of the piece's first byte.
  uint64_t offset;
  Use use;
  /// Watch that is to be asked what was written there; null: none.
  WriteWatch* watch = nullptr;
};

/// Pieces by GPA: disjoint, none empty. Ranges are whole pages.
class ShownPieces {
 public:
  using Pieces = std::map<uint64_t, ShownPiece>;

  /// Enters that a range shows a piece, and nothing else.
  void show(uint64_t gpa, ShownPiece piece) {
    forget(gpa, piece.end - gpa);
    pieces_.insert({gpa, std::move(piece)});
  }

  /// Forgets what a range has shown, and calls `gone(object, bytes)` for each part of it.
  template <typename Gone>
  void forget(uint64_t gpa, uint64_t length, Gone gone) {
    cut(gpa);
    cut(gpa + length);
    const auto first = pieces_.lower_bound(gpa);
    const auto last = pieces_.lower_bound(gpa + length);
    for (auto at = first; at != last; ++at) gone(at->second.object, at->second.end - at->first);
    pieces_.erase(first, last);
  }
  void forget(uint64_t gpa, uint64_t length) {
    forget(gpa, length, [](const std::shared_ptr<MemoryObject>&, uint64_t) {});
  }

  /// Says what may be done with the pieces of a range from now on.
  void setUse(uint64_t gpa, uint64_t length, Use use);

  /// First piece that ends behind `gpa`.
  Pieces::iterator firstIn(uint64_t gpa);
  Pieces::iterator begin() { return pieces_.begin(); }
  Pieces::iterator end() { return pieces_.end(); }

 private:
  void cut(uint64_t gpa);

  Pieces pieces_;
};

}  // namespace membacking
