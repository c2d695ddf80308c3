// Locks of this process as its manager is shown them, in the table that both have.
#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "host/locks.h"
#include "sinks/lock_table.h"

namespace membacking {

/// The client's part of a table of locks. Whoever calls has the mutex of the locks.
class ShownLocks : public Locks::Witness {
 public:
  explicit ShownLocks(std::shared_ptr<LockTable> table) : table_(std::move(table)) {}

  bool show(uint64_t id, const Locks::Lock& lock) override;
  void forget(uint64_t id) override;
  bool isBarred(Locks::Range range, bool isWrite) const override;

 private:
  uint32_t takePlace();

  const std::shared_ptr<LockTable> table_;
  /// Places of ranges by the numbers of their locks.
  std::unordered_multimap<uint64_t, uint32_t> places_;
  /// Places that are free, of those that were used.
  std::vector<uint32_t> free_;
  uint32_t used_ = 0;
};

}  // namespace membacking
