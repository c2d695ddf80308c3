// Stretches of a memory object, in lists.
#pragma once

#include <cstdint>
#include <vector>

namespace membacking {

/// A stretch of an object, in bytes, not empty.
struct Stretch {
  uint64_t offset;
  uint64_t length;
};

/// Appends a stretch that lies behind all others, and is joined to the last one where it touches it.
inline void appendStretch(std::vector<Stretch>& stretches, uint64_t offset, uint64_t length) {
  if (!stretches.empty() && stretches.back().offset + stretches.back().length == offset) {
    stretches.back().length += length;
  } else {
    // Written where it stays: of one that is copied, both halves are read at once, which waits for their writes.
    Stretch& added = stretches.emplace_back();
    added.offset = offset;
    added.length = length;
  }
}

}  // namespace membacking
