// Limits: ranges of a VA space that may be used less than they are mapped. A huge page is mapped as a whole, even where
// the guest sees only a part of it, or may write only a part.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "host/use.h"

namespace membacking {

/// Asked by every thread that reads or writes guest memory, changed by the one that carries out plans.
class Limits {
 public:
  /// A stretch [start, end) of the VA space that may be used so.
  struct Stretch {
    uint64_t start;
    uint64_t end;
    Use use;
  };

  /// From now on [start, end), whatever was said of it before. `kAll` takes the limit away.
  void set(Stretch stretch);

  /// The first byte in [start, end) that may not be used so; `end` where all may. `found` then says what it may.
  uint64_t firstRefused(uint64_t start, uint64_t end, bool isWrite, Use& found) const {
    return isEmpty_.load(std::memory_order_acquire) ? end : search(start, end, isWrite, found);
  }

 private:
  using List = std::vector<Stretch>;

  uint64_t search(uint64_t start, uint64_t end, bool isWrite, Use& found) const;

  std::atomic<bool> isEmpty_{true};
  mutable std::mutex mutex_;
  /// In order and disjoint; replaced as a whole, so that readers keep what they have.
  std::shared_ptr<const List> list_ = std::make_shared<const List>();
};

}  // namespace membacking
