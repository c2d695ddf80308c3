// Pieces that a VA space shows: how they are cut where something else begins.

#include "sinks/shown_pieces.h"

#include <iterator>
#include <utility>

namespace membacking {

void ShownPieces::setUse(uint64_t gpa, uint64_t length, Use use) {
  cut(gpa);
  cut(gpa + length);
  for (auto at = pieces_.lower_bound(gpa); at != pieces_.end() && at->first < gpa + length; ++at) at->second.use = use;
}

/// Makes two pieces of one that `gpa` is inside of.
void ShownPieces::cut(uint64_t gpa) {
  const auto at = firstIn(gpa);
  if (at == pieces_.end() || at->first >= gpa) return;
  ShownPiece behind = at->second;
  behind.offset += gpa - at->first;
  at->second.end = gpa;
  pieces_.insert({gpa, std::move(behind)});
}

ShownPieces::Pieces::iterator ShownPieces::firstIn(uint64_t gpa) {
  auto at = pieces_.upper_bound(gpa);
  if (at != pieces_.begin() && std::prev(at)->second.end > gpa) --at;
  return at;
}

}  // namespace membacking
