// Uses of the bytes of a VA space, stretch by stretch.
#pragma once

#include <cstdint>

#include "host/range_map.h"
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
  bool isEmpty() const { return stretches_.isEmpty(); }

  /// First byte in [start, end) that allows less than `least`; `end` if there is none. `found` gets what it allows.
  uint64_t firstBelow(uint64_t start, uint64_t end, Use least, Use& found) const;
  /// Start of the bytes before `end` that allow `least` one and all, no lower than `start`; `end` if the last byte
  /// allows less.
  uint64_t startOfRun(uint64_t start, uint64_t end, Use least) const;

 private:
  /// Use of every byte of a stretch.
  struct UseOfEach {
    Use use;
    UseOfEach behind(uint64_t) const { return *this; }
  };

  const Use elsewhere_;
  /// Stretches, none of which has the use `elsewhere_`.
  RangeMap<UseOfEach> stretches_;
};

}  // namespace membacking
