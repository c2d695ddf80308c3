// Holds of writes: moments in which writes to memory that may be written fault, because what is there is being
// exchanged for something else. Whoever faults finds out here whether to try again.
#pragma once

#include <cstdint>
#include <mutex>

namespace membacking {

/// One moment in which writes to some range of this process fault. One at a time in the whole process.
class WriteHold {
 public:
  WriteHold();
  ~WriteHold();
  WriteHold(const WriteHold&) = delete;

  /// Number of holds that have ended: to be read before a write that may have to be tried again.
  static uint64_t ended();
  /// Whether a write that was begun at `endedBefore` and faulted is to be tried again: a hold has ended since. Waits
  /// for one that is going on.
  static bool hasEndedSince(uint64_t endedBefore);

 private:
  std::lock_guard<std::mutex> lock_;
};

}  // namespace membacking
