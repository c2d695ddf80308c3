// Locks that are shown: an entry is written while its number is 0, so that nobody takes a half of one for a whole.

#include "mapper/shown_locks.h"

#include <algorithm>
#include <cstring>

namespace membacking {
namespace {

/// Whoever finds something new in an entry has seen before that its number was 0.
constexpr auto kRelease = std::memory_order_release;

void write(LockTable::Entry& entry, uint64_t id, const Locks::Range& range, const Locks::Lock& lock) {
  entry.start.store(range.start, kRelease);
  entry.end.store(range.end, kRelease);
  entry.isWrite.store(lock.isWrite ? 1 : 0, kRelease);
  char name[abi::LOCK_HOLDER_SIZE] = {};
  lock.holder.copy(name, sizeof name);
  for (size_t i = 0; i != std::size(entry.holder); i++) {
    uint64_t word = 0;
    // SAFETY: the name is as many bytes as the words.
    std::memcpy(&word, name + i * sizeof word, sizeof word);
    entry.holder[i].store(word, kRelease);
  }
  entry.id.store(id);
}

}  // namespace

bool ShownLocks::show(uint64_t id, const Locks::Lock& lock) {
  for (const Locks::Range& range : lock.ranges) {
    const uint32_t place = takePlace();
    if (place == abi::LOCK_ENTRIES) return false;
    places_.emplace(id, place);
    write(table_->entries[place], id, range, lock);
  }
  return true;
}

/// A free place, the number of places where there is none.
uint32_t ShownLocks::takePlace() {
  if (free_.empty()) {
    if (used_ == abi::LOCK_ENTRIES) return used_;
    table_->usedEntries = used_ + 1;
    return used_++;
  }
  const uint32_t place = free_.back();
  free_.pop_back();
  return place;
}

void ShownLocks::forget(uint64_t id) {
  const auto [first, last] = places_.equal_range(id);
  for (auto at = first; at != last; ++at) {
    table_->entries[at->second].id.store(0, kRelease);
    free_.push_back(at->second);
  }
  places_.erase(first, last);
}

bool ShownLocks::isBarred(Locks::Range range, bool isWrite) const {
  const uint32_t used = std::min<uint32_t>(table_->usedBars, abi::LOCK_BARS);
  return std::any_of(table_->bars, table_->bars + used, [&](const LockTable::Bar& bar) {
    return bar.isUp != 0 && overlap(range, {bar.start, bar.end}) && !isEnough(static_cast<Use>(bar.left.load()), isWrite);
  });
}

}  // namespace membacking
