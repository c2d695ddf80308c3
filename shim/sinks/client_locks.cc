// Locks of a client: what the manager writes is its own part of the table; of the client's part, it believes nothing.

#include "sinks/client_locks.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace membacking {
namespace {

/// Place of the bar of everything, which stands for those that find no place.
constexpr uint32_t kEverything = abi::LOCK_BARS - 1;
/// First byte that no guest has.
constexpr uint64_t kReach = uint64_t{1} << abi::GPA_BITS;

constexpr auto kAcquire = std::memory_order_acquire;

/// Name of a holder: to its first zero.
std::string holderOf(const LockTable::Entry& entry) {
  char name[abi::LOCK_HOLDER_SIZE + 1] = {};
  for (size_t i = 0; i != std::size(entry.holder); i++) {
    const uint64_t word = entry.holder[i].load(kAcquire);
    // SAFETY: the words are as many bytes as the name has room for.
    std::memcpy(name + i * sizeof word, &word, sizeof word);
  }
  return name;
}

/// A lock that an entry is of: number 0 where it is of none, or of another one meanwhile.
Locks::Broken read(const LockTable::Entry& entry) {
  const uint64_t id = entry.id.load();
  if (id == 0) return {};
  const Locks::Range range{entry.start.load(kAcquire), entry.end.load(kAcquire)};
  Locks::Broken lock{id, range, entry.isWrite.load(kAcquire) != 0, holderOf(entry)};
  // Had another lock been written over it, its number would have gone before.
  if (entry.id.load() != id || range.start >= range.end || range.end > kReach) return {};
  return lock;
}

}  // namespace

bool ClientLocks::shut() {
  table_->gate.isShut = 1;
  if (!isUsed()) return true;
  open();
  return false;
}

uint64_t ClientLocks::bar(Locks::Range range, Use left) {
  uint32_t place = kEverything;
  if (!freeBars_.empty()) {
    place = freeBars_.back();
    freeBars_.pop_back();
  } else if (usedBars_ != kEverything) {
    place = usedBars_++;
  } else {
    placeless_++;
    range = {0, UINT64_MAX};
    left = Use::kNothing;
  }
  LockTable::Bar& bar = table_->bars[place];
  bar.start.store(range.start, std::memory_order_relaxed);
  bar.end.store(range.end, std::memory_order_relaxed);
  bar.left.store(static_cast<uint32_t>(left), std::memory_order_relaxed);
  bar.isUp.store(1);
  table_->usedBars = placeless_ != 0 ? abi::LOCK_BARS : usedBars_;
  return place;
}

void ClientLocks::unbar(uint64_t id) {
  if (id == kEverything && --placeless_ != 0) return;
  table_->bars[id].isUp.store(0);
  if (id == kEverything) {
    table_->usedBars = usedBars_;
  } else {
    freeBars_.push_back(static_cast<uint32_t>(id));
  }
}

std::vector<Locks::Broken> ClientLocks::brokenBy(Locks::Range range, Use left) const {
  std::vector<Locks::Broken> broken;
  const uint32_t used = usedEntries();
  for (uint32_t i = 0; i != used; i++) {
    Locks::Broken lock = read(table_->entries[i]);
    if (lock.id == 0 || isEnough(left, lock.isWrite) || !overlap(lock.range, range)) continue;
    broken.push_back(std::move(lock));
  }
  return broken;
}

bool ClientLocks::isHeld(uint64_t id) const {
  const uint32_t used = usedEntries();
  return std::any_of(table_->entries, table_->entries + used, [id](const auto& entry) { return entry.id == id; });
}

uint32_t ClientLocks::usedEntries() const { return std::min<uint32_t>(table_->usedEntries, abi::LOCK_ENTRIES); }

}  // namespace membacking
