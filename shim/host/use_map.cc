// Uses by address: stretches that are cut where something else is said.
#include "host/use_map.h"

#include <algorithm>
#include <iterator>

#include "host/invariant.h"

namespace membacking {

void UseMap::set(uint64_t start, uint64_t end, Use use) {
  INVARIANT(start < end);
  cut(start);
  cut(end);
  const auto behind = stretches_.erase(stretches_.lower_bound(start), stretches_.lower_bound(end));
  if (use != elsewhere_) stretches_.emplace_hint(behind, start, Stretch{end, use});
}

/// Makes two stretches of one that `at` is inside of.
void UseMap::cut(uint64_t at) {
  const auto next = stretches_.lower_bound(at);
  if (next == stretches_.begin()) return;
  Stretch& before = std::prev(next)->second;
  if (before.end <= at) return;
  stretches_.emplace_hint(next, at, before);
  before.end = at;
}

uint64_t UseMap::firstBelow(uint64_t start, uint64_t end, Use least, Use& found) const {
  auto next = stretches_.upper_bound(start);
  if (next != stretches_.begin() && std::prev(next)->second.end > start) --next;
  for (uint64_t at = start; at < end;) {
    const bool isInside = next != stretches_.end() && next->first <= at;
    const Use use = isInside ? next->second.use : elsewhere_;
    if (use < least) {
      found = use;
      return at;
    }
    if (isInside) {
      at = next++->second.end;
    } else {
      at = next == stretches_.end() ? end : next->first;
    }
  }
  return end;
}

uint64_t UseMap::startOfRun(uint64_t start, uint64_t end, Use least) const {
  uint64_t at = end;
  for (auto next = stretches_.lower_bound(end); at > start;) {
    const auto before = next == stretches_.begin() ? stretches_.end() : std::prev(next);
    const bool isInside = before != stretches_.end() && before->second.end >= at;
    if ((isInside ? before->second.use : elsewhere_) < least) return at;
    if (isInside) {
      at = before->first;
      next = before;
    } else {
      at = before == stretches_.end() ? start : before->second.end;
    }
  }
  return std::max(at, start);
}

}  // namespace membacking
