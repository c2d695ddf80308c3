// Locks of native code on ranges of a VA space, and the changes that keep new ones away.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "host/use.h"

namespace membacking {

/// Locks of one VA space. Threads of native code take and release them; the one that carries out plans bars ranges
/// before it looks who has locked them, so that nobody comes in between.
class Locks {
 public:
  /// Stretch [start, end) of GPAs.
  struct Range {
    uint64_t start;
    uint64_t end;
  };
  struct Lock {
    uint64_t id;
    std::vector<Range> ranges;
    bool isWrite;
    std::string holder;
  };
  /// A part of a lock that a change would break.
  struct Broken {
    uint64_t id;
    Range range;
    bool isWrite;
    std::string holder;
  };

  /// Counts those who have opened the VA space.
  void addUser() { users_++; }
  void removeUser() { users_--; }

  /// Says that some ranges are about to change, until endChange(). Without users, no lock is taken meanwhile; with
  /// some, the result is true, and the ranges are to be barred.
  bool beginChange();
  void endChange();

  /// Takes a lock; 0 where a bar is in the way.
  uint64_t add(std::vector<Range> ranges, bool isWrite, const std::string& holder);
  void remove(uint64_t id);
  bool isHeld(uint64_t id) const;

  /// Keeps new locks from a range that is about to have no more than `left`, until unbar().
  uint64_t bar(Range range, Use left);
  void unbar(uint64_t id);
  /// Parts of locks that need more than `left` of the range.
  std::vector<Broken> brokenBy(Range range, Use left) const;

 private:
  struct Bar {
    Range range;
    Use left;
  };

  std::atomic<uint32_t> users_{0};
  mutable std::mutex mutex_;
  bool areAllBarred_ = false;
  uint64_t lastId_ = 0;
  std::unordered_map<uint64_t, Lock> locks_;
  std::unordered_map<uint64_t, Bar> bars_;
};

}  // namespace membacking
