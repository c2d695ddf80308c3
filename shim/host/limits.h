// Limits: ranges of a VA space that may be used less than they are mapped. A huge page is mapped as a whole, even where
// the guest sees only a part of it, or may write only a part; and a view has limits of its own.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <shared_mutex>

#include "host/use_map.h"

namespace membacking {

/// A shared mutex whose writer waits for those readers alone that came before it.
class FairMutex {
 public:
  void lock_shared() {
    const std::lock_guard<std::mutex> turn(turn_);
    mutex_.lock_shared();
  }
  void unlock_shared() { mutex_.unlock_shared(); }
  void lock() {
    const std::lock_guard<std::mutex> turn(turn_);
    mutex_.lock();
  }
  void unlock() { mutex_.unlock(); }

 private:
  std::mutex turn_;
  std::shared_mutex mutex_;
};

/// Limits of one VA space or view. Every thread that reads or writes guest memory asks; the one that carries out plans
/// changes them.
class Limits {
 public:
  /// Stretch [start, end) of the VA space with the use that it allows. Addresses are GPAs.
  struct Stretch {
    uint64_t start;
    uint64_t end;
    Use use;
  };

  /// `besides`: limits that hold in the same way, and live longer; null where there are none.
  explicit Limits(const Limits* besides) : besides_(besides) {}

  /// Replaces whatever was said of [start, end). `kAll` takes the limit away. The stretch is not empty. Of a view, and
  /// wherever there are limits already, returns when all accesses have ended that began before.
  void set(Stretch stretch);

 private:
  friend class LimitsHold;

  const Limits* const besides_;
  std::atomic<bool> isEmpty_{true};
  mutable FairMutex mutex_;
  UseMap uses_{Use::kAll};
};

/// A hold on limits while one access is made: until it is gone, they stay as they are. An access is short.
class LimitsHold {
 public:
  explicit LimitsHold(const Limits& limits);

  /// First byte in [start, end) that may not be read, or written where `isWrite`; `end` if there is none. `found` gets
  /// the use that this byte allows.
  uint64_t firstRefused(uint64_t start, uint64_t end, bool isWrite, Use& found) const;
  /// Start of the bytes before `end` that all allow `least`, no lower than `start`; `end` if the last one does not.
  uint64_t startOfRun(uint64_t start, uint64_t end, Use least) const;

 private:
  const Limits& limits_;
  /// Locked where there may be limits.
  std::shared_lock<FairMutex> own_;
  std::shared_lock<FairMutex> besides_;
};

}  // namespace membacking
