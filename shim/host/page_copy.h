// Copies of pages from one file into another, which stays sparse.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "host/failure.h"
#include "host/fd.h"
#include "host/host_range.h"
#include "host/stretch.h"

namespace membacking {

/// Offset in a file from which a copy counts.
struct FilePlace {
  FileDescriptor file;
  uint64_t offset = 0;
};

/// Copy of whole pages. No two of them may be under way for the same pages of a target.
struct PageCopy {
  FilePlace from;
  /// Host range of the source, from its beginning on, through which pages that are in memory are read; null: none.
  std::shared_ptr<const HostRange> view;
  /// Place of the copy; without a file, the pages are read and summed alone.
  FilePlace to;
  /// Pages, by their offset from both places.
  std::vector<Stretch> stretches;
  /// Whether pages of zeroes are not copied: they are holes in the target already.
  bool leavesZeroesOut = false;

  /// Copies, on whichever thread. ENXIO of pread: the source ends before. `copied`: pages that were not left out,
  /// upwards; `crc32`: of their bytes, as they were written.
  Failure run(std::vector<Stretch>& copied, uint32_t& crc32) const;

 private:
  Failure read(const std::vector<Stretch>& parts, uint8_t* into, bool& isQuick) const;
  Failure write(const Stretch& part, const uint8_t* bytes, std::vector<Stretch>& copied, uint32_t& crc32) const;
};

}  // namespace membacking
