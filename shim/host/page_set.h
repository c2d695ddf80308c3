// Sets of pages of one object: sparse, as objects may be of any size.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <vector>

#include "host/host_range.h"
#include "host/stretch.h"

namespace membacking {

/// Set of pages, by their offsets in the object.
class PageSet {
 public:
  PageSet() = default;
  PageSet(const PageSet&) = delete;

  /// Adds every page that a range which is not empty touches.
  void add(uint64_t offset, uint64_t length);
  /// Empties the set. Returns what was in it, upwards: stretches that do not touch each other.
  std::vector<Stretch> take() { return take(0, pageStart(UINT64_MAX)); }
  /// Takes what is in a range of whole pages. Returns it as `take` does.
  std::vector<Stretch> take(uint64_t start, uint64_t end);

 private:
  static constexpr uint64_t kWordPages = 64;
  static constexpr uint64_t kChunkPages = 256 * kWordPages;
  /// A bit a page.
  using Chunk = std::array<uint64_t, kChunkPages / kWordPages>;

  Chunk& chunkAt(uint64_t first);
  static void takeWords(uint64_t first, Chunk& chunk, uint64_t from, uint64_t to, std::vector<Stretch>& stretches);

  /// Chunks in which pages are, by the number of their first page.
  std::map<uint64_t, Chunk> chunks_;
  /// Chunk that a page was added to last, and its first page: the next one is mostly in it. Null: none.
  Chunk* recent_ = nullptr;
  uint64_t recentFirst_ = 0;
};

}  // namespace membacking
