// Uses by address: what stretches allow, and what lies between them.
#include "host/use_map.h"

#include <optional>

#include "host/invariant.h"

namespace membacking {

void UseMap::set(uint64_t start, uint64_t end, Use use) {
  INVARIANT(start < end);
  if (use == elsewhere_) {
    stretches_.erase(start, end);
    return;
  }
  const auto isSame = [use](const auto& stretch) { return stretch && stretch->value.use == use; };
  // What replaces memory mostly allows what that did.
  const auto here = stretches_.around(start);
  if (isSame(here) && here->end >= end) return;
  // Neighbours that allow the same are one stretch.
  const auto before = start == 0 ? std::nullopt : stretches_.around(start - 1);
  const auto behind = stretches_.around(end);
  stretches_.set(isSame(before) ? before->start : start, isSame(behind) ? behind->end : end, {use});
}

uint64_t UseMap::firstBelow(uint64_t start, uint64_t end, Use least, Use& found) const {
  for (uint64_t at = start; at < end;) {
    const auto stretch = stretches_.first(at, end);
    const bool isInside = stretch && stretch->start == at;
    const Use use = isInside ? stretch->value.use : elsewhere_;
    if (use < least) {
      found = use;
      return at;
    }
    at = isInside ? stretch->end : stretch ? stretch->start : end;
  }
  return end;
}

uint64_t UseMap::startOfRun(uint64_t start, uint64_t end, Use least) const {
  for (uint64_t at = end; at > start;) {
    const auto stretch = stretches_.last(start, at);
    const bool isInside = stretch && stretch->end == at;
    if ((isInside ? stretch->value.use : elsewhere_) < least) return at;
    at = isInside ? stretch->start : stretch ? stretch->end : start;
  }
  return start;
}

}  // namespace membacking
