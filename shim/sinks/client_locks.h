// Locks of a client's process as its manager has them: read in the table that both have, whatever the client does.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "host/locks.h"
#include "sinks/lock_table.h"

namespace membacking {

/// Locks of one client, and the ranges that are barred for it. One thread uses this: the one that carries out plans.
class ClientLocks {
 public:
  explicit ClientLocks(std::shared_ptr<LockTable> table) : table_(std::move(table)) {}

  /// Shuts the gate, unless somebody has opened the VA space or locked something: whether nobody has.
  bool shut();
  void open() { table_->gate.isShut = 0; }
  bool isUsed() const { return table_->gate.users != 0; }

  // Bars, and locks that are found: as Locks has them.

  uint64_t bar(Locks::Range range, Use left);
  void unbar(uint64_t id);
  /// Bytes behind what can be locked are in no lock: what the client says otherwise does not count.
  std::vector<Locks::Broken> brokenBy(Locks::Range range, Use left) const;
  bool isHeld(uint64_t id) const;

 private:
  uint32_t usedEntries() const;

  const std::shared_ptr<LockTable> table_;
  /// Places of bars that are free, of those that were used.
  std::vector<uint32_t> freeBars_;
  uint32_t usedBars_ = 0;
  /// Bars without a place. As long as there are some, everything is barred.
  uint32_t placeless_ = 0;
};

}  // namespace membacking
