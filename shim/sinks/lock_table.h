// Tables of locks: memory that a client's process has in common with its manager, as assembly/abi.ts draws it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "abi.h"
#include "host/locks.h"
#include "host/object.h"

namespace membacking {

/// Locks that a client's process holds, and ranges that its manager keeps new ones from. Either side may find anything
/// in the other's part: it is read once, and checked.
struct LockTable {
  struct Bar {
    std::atomic<uint64_t> start;
    std::atomic<uint64_t> end;
    /// Use that is left.
    std::atomic<uint32_t> left;
    std::atomic<uint32_t> isUp;
  };
  struct Entry {
    std::atomic<uint64_t> id;
    std::atomic<uint64_t> start;
    std::atomic<uint64_t> end;
    std::atomic<uint64_t> isWrite;
    std::atomic<uint64_t> holder[abi::LOCK_HOLDER_SIZE / sizeof(uint64_t)];
  };

  Locks::Gate gate;
  std::atomic<uint32_t> usedBars;
  std::atomic<uint32_t> usedEntries;
  uint8_t unused[abi::LOCKS_HEADER_SIZE - 16];
  Bar bars[abi::LOCK_BARS];
  Entry entries[abi::LOCK_ENTRIES];

  /// Makes the memory of an empty table.
  static Failure create(std::shared_ptr<MemoryObject>& memory);
  /// Maps a table. EPROTO: the descriptor is of something else, or of what can become shorter.
  static Failure map(int fd, std::shared_ptr<LockTable>& result);
};

static_assert(std::atomic<uint64_t>::is_always_lock_free && std::atomic<uint32_t>::is_always_lock_free,
              "two processes use the words");
static_assert(sizeof(LockTable::Bar) == abi::LOCK_BAR_SIZE && sizeof(LockTable::Entry) == abi::LOCK_ENTRY_SIZE &&
              offsetof(LockTable, bars) == abi::LOCKS_HEADER_SIZE);

}  // namespace membacking
