// Dirty pages of one object: written since somebody last asked, whoever wrote them, at whichever place.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "host/page_set.h"

namespace membacking {

/// Dirty pages of one object, for each tracker: what is dirty for one was perhaps asked for by another.
class DirtyPages {
 public:
  /// Begins to keep them for a tracker: there are none yet.
  void addTracker(uint32_t tracker) { sets_[tracker]; }
  void removeTracker(uint32_t tracker) { sets_.erase(tracker); }

  /// Notes for all trackers that pages in a range that is not empty were written.
  void add(uint64_t offset, uint64_t length) {
    for (auto& [tracker, set] : sets_) set.add(offset, length);
  }
  /// Dirty pages for a tracker, which has seen them then.
  std::vector<Stretch> take(uint32_t tracker) { return sets_[tracker].take(); }

 private:
  std::map<uint32_t, PageSet> sets_;
};

}  // namespace membacking
