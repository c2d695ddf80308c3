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

/// Limits of one VA space. Every thread that reads or writes guest memory asks; the one that carries out plans changes
/// them.
class Limits {
 public:
  /// Stretch [start, end) of the VA space with the use that it allows. Addresses are GPAs.
  struct Stretch {
    uint64_t start;
    uint64_t end;
    Use use;
  };

  /// Replaces whatever was said of [start, end). `kAll` takes the limit away. The stretch is not empty.
  void set(Stretch stretch);

  /// First byte in [start, end) that may not be read, or written where `isWrite`; `end` if there is none. `found` gets
  /// the use that this byte allows.
  uint64_t firstRefused(uint64_t start, uint64_t end, bool isWrite, Use& found) const {
    return isEmpty_.load(std::memory_order_acquire) ? end : search(start, end, isWrite, found);
  }

 private:
  using List = std::vector<Stretch>;

  static bool isInOrder(const List& list);
  uint64_t search(uint64_t start, uint64_t end, bool isWrite, Use& found) const;

  std::atomic<bool> isEmpty_{true};
  mutable std::mutex mutex_;
  /// Sorted, disjoint, none empty. Replaced as a whole, so that readers go on with the one they hold.
  std::shared_ptr<const List> list_ = std::make_shared<const List>();
};

}  // namespace membacking
