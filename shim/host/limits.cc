// Limits of a VA space, which accesses hold and plans change.
#include "host/limits.h"

namespace membacking {

void Limits::set(Stretch stretch) {
  const std::lock_guard<FairMutex> lock(mutex_);
  uses_.set(stretch.start, stretch.end, stretch.use);
  isEmpty_.store(uses_.isEmpty(), std::memory_order_release);
}

LimitsHold::LimitsHold(const Limits& limits) : limits_(limits) {
  const Limits* besides = limits.besides_;
  if (besides != nullptr || !limits.isEmpty_.load(std::memory_order_acquire)) own_ = std::shared_lock(limits.mutex_);
  if (besides != nullptr && !besides->isEmpty_.load(std::memory_order_acquire)) {
    besides_ = std::shared_lock(besides->mutex_);
  }
}

uint64_t LimitsHold::firstRefused(uint64_t start, uint64_t end, bool isWrite, Use& found) const {
  const Use least = isWrite ? Use::kAll : Use::kRead;
  uint64_t refused = end;
  if (own_.owns_lock()) refused = limits_.uses_.firstBelow(start, refused, least, found);
  if (besides_.owns_lock()) refused = limits_.besides_->uses_.firstBelow(start, refused, least, found);
  return refused;
}

uint64_t LimitsHold::startOfRun(uint64_t start, uint64_t end, Use least) const {
  uint64_t first = start;
  if (own_.owns_lock()) first = limits_.uses_.startOfRun(first, end, least);
  if (besides_.owns_lock()) first = limits_.besides_->uses_.startOfRun(first, end, least);
  return first;
}

}  // namespace membacking
