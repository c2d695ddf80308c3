// Sets of pages: bits, a word at a time.

#include "host/page_set.h"

#include <algorithm>

#include "host/invariant.h"
#include "host/mapping.h"

namespace membacking {

void PageSet::add(uint64_t offset, uint64_t length) {
  INVARIANT(length != 0);
  const uint64_t end = (offset + length - 1) / kPageSize + 1;
  for (uint64_t page = offset / kPageSize; page != end;) {
    const uint64_t inChunk = page % kChunkPages;
    Chunk& chunk = chunks_.try_emplace(page - inChunk).first->second;
    const uint64_t chunkEnd = std::min(end, page - inChunk + kChunkPages);
    while (page != chunkEnd) {
      const uint64_t bit = page % kWordPages;
      const uint64_t count = std::min(chunkEnd - page, kWordPages - bit);
      chunk[page % kChunkPages / kWordPages] |= (~uint64_t{0} >> (kWordPages - count)) << bit;
      page += count;
    }
  }
}

std::vector<Stretch> PageSet::take() {
  std::vector<Stretch> stretches;
  for (const auto& [first, chunk] : chunks_) {
    for (uint64_t word = 0; word != chunk.size(); word++) {
      uint64_t page = first + word * kWordPages;
      for (uint64_t bits = chunk[word]; bits != 0;) {
        const auto skipped = static_cast<uint64_t>(__builtin_ctzll(bits));
        bits >>= skipped;
        const auto count = ~bits == 0 ? kWordPages : static_cast<uint64_t>(__builtin_ctzll(~bits));
        appendStretch(stretches, (page + skipped) * kPageSize, count * kPageSize);
        page += skipped + count;
        bits = count == kWordPages ? 0 : bits >> count;
      }
    }
  }
  chunks_.clear();
  return stretches;
}

}  // namespace membacking
