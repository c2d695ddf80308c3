// Locks and bars: two lists, of which one is looked through before the other grows.
#include "host/locks.h"

#include <chrono>
#include <thread>
#include <utility>

namespace membacking {

void Locks::setWitness(std::shared_ptr<Witness> witness, std::shared_ptr<Gate> gate) {
  witness_ = std::move(witness);
  gate_ = std::move(gate);
}

uint64_t Locks::add(Lock lock) {
  const std::lock_guard<std::mutex> guard(mutex_);
  const uint64_t id = ++lastId_;
  // Before the gate and the bars are read: see Gate.
  addUser();
  const bool isShown = witness_ == nullptr || witness_->show(id, lock);
  if (!isShown || gate_->isShut != 0 || isBarred(lock)) {
    end(id);
    return 0;
  }
  locks_.emplace(id, std::move(lock));
  return id;
}

/// Undoes what comes before a lock is entered.
void Locks::end(uint64_t id) {
  if (witness_ != nullptr) witness_->forget(id);
  removeUser();
}

bool Locks::isBarred(const Lock& lock) const {
  for (const Range& range : lock.ranges) {
    if (witness_ != nullptr && witness_->isBarred(range, lock.isWrite)) return true;
    for (const auto& [_, bar] : bars_) {
      if (overlap(range, bar.range) && !isEnough(bar.left, lock.isWrite)) return true;
    }
  }
  return false;
}

void Locks::awaitOpenGate() const {
  constexpr std::chrono::milliseconds kLongest{100};
  // The clock takes longer than all the rest of a lock, and mostly nobody waits.
  if (gate_->isShut == 0) return;
  for (const auto until = std::chrono::steady_clock::now() + kLongest;
       gate_->isShut != 0 && std::chrono::steady_clock::now() < until;) {
    std::this_thread::yield();
  }
}

void Locks::remove(uint64_t id) {
  const std::lock_guard<std::mutex> guard(mutex_);
  if (locks_.erase(id) != 0) end(id);
}

void Locks::revoke(uint64_t id) {
  const std::lock_guard<std::mutex> guard(mutex_);
  const auto found = locks_.find(id);
  if (found == locks_.end() || found->second.owner == nullptr) return;
  if (found->second.ask != nullptr) {
    found->second.isAskedFor = true;
    found->second.ask();
  } else {
    locks_.erase(found);
    end(id);
  }
}

bool Locks::show(uint64_t id, std::function<void()> ask) {
  const std::lock_guard<std::mutex> guard(mutex_);
  const auto found = locks_.find(id);
  if (found == locks_.end()) return false;
  found->second.ask = std::move(ask);
  return true;
}

bool Locks::isAskedFor(uint64_t id) const {
  const std::lock_guard<std::mutex> guard(mutex_);
  const auto found = locks_.find(id);
  return found != locks_.end() && found->second.isAskedFor;
}

void Locks::removeAllOf(const void* owner) {
  const std::lock_guard<std::mutex> guard(mutex_);
  for (auto at = locks_.begin(); at != locks_.end();) {
    if (at->second.owner != owner) {
      ++at;
    } else {
      end(at->first);
      at = locks_.erase(at);
    }
  }
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
