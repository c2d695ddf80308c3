// Uses of the bytes of a VA space, stretch by stretch.
#pragma once

#include <cstdint>
#include <map>

#include "host/use.h"

namespace membacking {

/// Uses by address: of stretches, and one use for all that lies in none. Whoever has one sees to it that one thread at
/// a time changes it, and nobody asks meanwhile.
class UseMap {
 public:
  explicit UseMap(Use elsewhere) : elsewhere_(elsewhere) {}

  /// Replaces whatever was said of [start, end), which is not empty.
  void set(uint64_t start, uint64_t end, Use use);
  /// Whether every byte has the use of all that lies in no stretch.
  bool isEmpty() const { return stretches_.empty(); }

  /// First byte in [start, end) that allows less than `least`; `end` if there is none. `found` gets what it allows.
  uint64_t firstBelow(uint64_t start, uint64_t end, Use least, Use& found) const;
  /// Start of the bytes before `end` that allow `least` one and all, no lower than `start`; `end` if the last byte
  /// allows less.
  uint64_t startOfRun(uint64_t start, uint64_t end, Use least) const;

 private:
  struct Stretch {
    uint64_t end;
    Use use;
  };

  void cut(uint64_t at);

  const Use elsewhere_;
  /// Disjoint, none empty, by their starts; none of them has the use `elsewhere_`.
  std::map<uint64_t, Stretch> stretches_;
};

}  // namespace membacking
