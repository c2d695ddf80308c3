// Limits of a VA space: a sorted list that is searched, and rebuilt by each change.
#include "host/limits.h"

#include <algorithm>
#include <utility>

#include "host/invariant.h"

namespace membacking {

/// Whether no stretch is empty, and each begins where the one before has ended or later.
bool Limits::isInOrder(const List& list) {
  uint64_t end = 0;
  return std::all_of(list.begin(), list.end(), [&](const Stretch& stretch) {
    return std::exchange(end, stretch.end) <= stretch.start && stretch.start < stretch.end;
  });
}

void Limits::set(Stretch stretch) {
  INVARIANT(stretch.start < stretch.end);
  auto next = std::make_shared<List>();
  next->reserve(list_->size() + 2);
  bool isPlaced = stretch.use == Use::kAll;
  for (const Stretch& old : *list_) {
    if (old.start < stretch.start) next->push_back({old.start, std::min(old.end, stretch.start), old.use});
    if (!isPlaced && old.end > stretch.start) {
      next->push_back(stretch);
      isPlaced = true;
    }
    if (old.end > stretch.end) next->push_back({std::max(old.start, stretch.end), old.end, old.use});
  }
  if (!isPlaced) next->push_back(stretch);
  INVARIANT(isInOrder(*next));
  const std::lock_guard<std::mutex> lock(mutex_);
  isEmpty_.store(next->empty(), std::memory_order_release);
  list_ = std::move(next);
}

uint64_t Limits::search(uint64_t start, uint64_t end, bool isWrite, Use& found) const {
  std::shared_ptr<const List> list;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    list = list_;
  }
  auto at = std::upper_bound(list->begin(), list->end(), start,
                             [](uint64_t byte, const Stretch& stretch) { return byte < stretch.end; });
  for (; at != list->end() && at->start < end; ++at) {
    if (!isWrite && at->use == Use::kRead) continue;
    found = at->use;
    return std::max(start, at->start);
  }
  return end;
}

}  // namespace membacking
