// Pages: their sizes, and where one begins and ends.
#pragma once

#include <cstdint>

namespace membacking {

/// Bytes of a page of the host. Commands deal in whole pages.
inline constexpr uint64_t kPageSize = 4096;
/// Bytes of a page that the CPU maps by one entry of a page directory.
inline constexpr uint64_t kHugePageSize = 2 * 1024 * 1024;

/// First byte of the page that `at` is in.
constexpr uint64_t pageStart(uint64_t at) { return at & ~(kPageSize - 1); }

/// Last byte of the page that `at` is in.
constexpr uint64_t pageLast(uint64_t at) { return at | (kPageSize - 1); }

/// End of the pages that hold all before `end`.
constexpr uint64_t pageEnd(uint64_t end) { return pageStart(end + (kPageSize - 1)); }

}  // namespace membacking
