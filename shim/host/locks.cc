// Locks and bars: two lists, of which one is looked through before the other grows.
#include "host/locks.h"

#include <utility>

namespace membacking {
namespace {

bool overlap(const Locks::Range& one, const Locks::Range& other) {
  return one.start < other.end && other.start < one.end;
}

bool isEnough(Use left, bool isWrite) { return left == Use::kAll || (left == Use::kRead && !isWrite); }

}  // namespace

uint64_t Locks::add(std::vector<Range> ranges, bool isWrite, const std::string& holder) {
  const std::lock_guard<std::mutex> guard(mutex_);
  if (gate_->isShut != 0) return 0;
  for (const auto& [_, bar] : bars_) {
    for (const Range& range : ranges) {
      if (overlap(range, bar.range) && !isEnough(bar.left, isWrite)) return 0;
    }
  }
  const uint64_t id = ++lastId_;
  locks_.emplace(id, Lock{id, std::move(ranges), isWrite, holder});
  addUser();
  return id;
}

void Locks::remove(uint64_t id) {
  const std::lock_guard<std::mutex> guard(mutex_);
  if (locks_.erase(id) != 0) removeUser();
}

bool Locks::isHeld(uint64_t id) const {
  const std::lock_guard<std::mutex> guard(mutex_);
  return locks_.count(id) != 0;
}

uint64_t Locks::bar(Range range, Use left) {
  const std::lock_guard<std::mutex> guard(mutex_);
  bars_.emplace(++lastId_, Bar{range, left});
  return lastId_;
}

void Locks::unbar(uint64_t id) {
  const std::lock_guard<std::mutex> guard(mutex_);
  bars_.erase(id);
}

std::vector<Locks::Broken> Locks::brokenBy(Range range, Use left) const {
  const std::lock_guard<std::mutex> guard(mutex_);
  std::vector<Broken> broken;
  for (const auto& [id, lock] : locks_) {
    if (isEnough(left, lock.isWrite)) continue;
    for (const Range& held : lock.ranges) {
      if (overlap(held, range)) broken.push_back({id, held, lock.isWrite, lock.holder});
    }
  }
  return broken;
}

}  // namespace membacking
