// Sets of pages: bits, a word at a time.

#include "host/page_set.h"

#include <algorithm>

#include "host/invariant.h"

namespace membacking {

void PageSet::add(uint64_t offset, uint64_t length) {
  INVARIANT(length != 0);
  const uint64_t end = (offset + length - 1) / kPageSize + 1;
  for (uint64_t page = offset / kPageSize; page != end;) {
    const uint64_t inChunk = page % kChunkPages;
    Chunk& chunk = chunkAt(page - inChunk);
    const uint64_t chunkEnd = std::min(end, page - inChunk + kChunkPages);
    while (page != chunkEnd) {
      const uint64_t bit = page % kWordPages;
      const uint64_t count = std::min(chunkEnd - page, kWordPages - bit);
      chunk[page % kChunkPages / kWordPages] |= (~uint64_t{0} >> (kWordPages - count)) << bit;
      page += count;
    }
  }
}

/// Finds the chunk that begins with a page; makes it where there is none.
PageSet::Chunk& PageSet::chunkAt(uint64_t first) {
  if (recent_ == nullptr || recentFirst_ != first) recent_ = &chunks_.try_emplace(first).first->second;
  recentFirst_ = first;
  return *recent_;
}

std::vector<Stretch> PageSet::take(uint64_t start, uint64_t end) {
  std::vector<Stretch> stretches;
  recent_ = nullptr;
  const uint64_t endPage = end / kPageSize;
  for (uint64_t from = start / kPageSize; from < endPage;) {
    const auto found = chunks_.lower_bound(from - from % kChunkPages);
    if (found == chunks_.end() || found->first >= endPage) break;
    auto& [first, chunk] = *found;
    from = std::max(from, first);
    const uint64_t to = std::min(endPage, first + kChunkPages);
    takeWords(first, chunk, from, to, stretches);
    const bool isEmpty = std::all_of(chunk.begin(), chunk.end(), [](uint64_t word) { return word == 0; });
    if (isEmpty) chunks_.erase(found);
    from = to;
  }
  return stretches;
}

/// Takes the pages of a chunk from `from` to `to`.
void PageSet::takeWords(uint64_t first, Chunk& chunk, uint64_t from, uint64_t to, std::vector<Stretch>& stretches) {
  while (from != to) {
    uint64_t& word = chunk[(from - first) / kWordPages];
    const uint64_t bit = from % kWordPages;
    const uint64_t wordEnd = std::min(to, from - bit + kWordPages);
    const uint64_t mask = (~uint64_t{0} >> (kWordPages - (wordEnd - from))) << bit;
    uint64_t page = from - bit;
    for (uint64_t bits = word & mask; bits != 0;) {
      const auto skipped = static_cast<uint64_t>(__builtin_ctzll(bits));
      bits >>= skipped;
      const auto count = ~bits == 0 ? kWordPages : static_cast<uint64_t>(__builtin_ctzll(~bits));
      appendStretch(stretches, (page + skipped) * kPageSize, count * kPageSize);
      page += skipped + count;
      bits = count == kWordPages ? 0 : bits >> count;
    }
    word &= ~mask;
    from = wordEnd;
  }
}

}  // namespace membacking
