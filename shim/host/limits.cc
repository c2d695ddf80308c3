// Limits of a VA space: stretches by their starts, which accesses hold and plans change.
#include "host/limits.h"

#include <algorithm>
#include <iterator>

#include "host/invariant.h"

namespace membacking {

void Limits::set(Stretch stretch) {
  INVARIANT(stretch.start < stretch.end);
  const std::lock_guard<FairMutex> lock(mutex_);
  clear(stretch.start, stretch.end);
  if (stretch.use != Use::kAll) stretches_.emplace(stretch.start, stretch);
  isEmpty_.store(stretches_.empty(), std::memory_order_release);
}

/// Takes [start, end) out of every stretch, cutting those that reach over its ends.
void Limits::clear(uint64_t start, uint64_t end) {
  auto at = stretches_.upper_bound(start);
  if (at != stretches_.begin() && std::prev(at)->second.end > start) --at;
  while (at != stretches_.end() && at->first < end) {
    const Stretch before = at->second;
    at = stretches_.erase(at);
    if (before.start < start) stretches_.emplace(before.start, Stretch{before.start, start, before.use});
    if (before.end > end) stretches_.emplace(end, Stretch{end, before.end, before.use});
  }
}

uint64_t Limits::firstRefused(uint64_t start, uint64_t end, bool isWrite, Use& found) const {
  auto at = stretches_.upper_bound(start);
  if (at != stretches_.begin() && std::prev(at)->second.end > start) --at;
  for (; at != stretches_.end() && at->first < end; ++at) {
    if (!isWrite && at->second.use == Use::kRead) continue;
    found = at->second.use;
    return std::max(start, at->first);
  }
  return end;
}

LimitsHold::LimitsHold(const Limits& limits) : limits_(limits) {
  const Limits* besides = limits.besides_;
  if (besides != nullptr || !limits.isEmpty_.load(std::memory_order_acquire)) own_ = std::shared_lock(limits.mutex_);
  if (besides != nullptr && !besides->isEmpty_.load(std::memory_order_acquire)) {
    besides_ = std::shared_lock(besides->mutex_);
  }
}

uint64_t LimitsHold::firstRefused(uint64_t start, uint64_t end, bool isWrite, Use& found) const {
  uint64_t refused = end;
  if (own_.owns_lock()) refused = limits_.firstRefused(start, refused, isWrite, found);
  if (besides_.owns_lock()) refused = limits_.besides_->firstRefused(start, refused, isWrite, found);
  return refused;
}

}  // namespace membacking
