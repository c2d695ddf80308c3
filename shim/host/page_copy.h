// Copies of pages from a file, or private memory, into another file, which stays sparse.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "host/failure.h"
#include "host/fd.h"
#include "host/host_range.h"
#include "host/object.h"
#include "host/pager.h"
#include "host/range_map.h"
#include "host/stretch.h"

namespace membacking {

/// Offset in a file from which a copy counts.
struct FilePlace {
  FileDescriptor file;
  uint64_t offset = 0;
};

/// Pages that files have; all others are zeroes.
struct FileImage {
  std::vector<FileDescriptor> files;
  RangeMap<FilePart> parts;
};

/// Copy of whole pages. No two of them may be under way for the same pages of a target.
struct PageCopy {
  /// Place of the pages: in a file, or in `memory`.
  FilePlace from;
  /// Private object that has them; null: the file has.
  std::shared_ptr<const MemoryObject> memory;
  /// Pages that it has alone, where `from` is in the file that has all others.
  std::vector<Stretch> own;
  /// Host range of the source, from its beginning on, through which pages that are in memory are read; null: none.
  std::shared_ptr<const HostRange> view;
  /// Place of the copy; without a file, the pages are read and summed alone.
  FilePlace to;
  /// Pages, by their offset from both places.
  std::vector<Stretch> stretches;
  /// Whether pages that are as in `base` are not copied; without any parts of it, those of zeroes: they are holes in
  /// the target already.
  bool leavesOut = false;
  FileImage base;

  /// Whether the object, if there is one, has all of the pages.
  bool isInside() const {
    if (memory == nullptr || stretches.empty()) return true;
    const auto& [offset, length] = stretches.back();
    return memory->contains(offset, length);
  }
  /// Copies, on whichever thread. ENXIO of pread: the file ends before; EIO: the object's memory is not there.
  /// `copied`: pages that were not left out, upwards; `crc32`: of their bytes, as they were written.
  Failure run(std::vector<Stretch>& copied, uint32_t& crc32) const;

 private:
  Failure read(const std::vector<Stretch>& parts, uint8_t* into, bool& isQuick) const;
  Failure readMemory(const Stretch& part, uint8_t* into) const;
  Failure readOwn(const Stretch& part, uint8_t* into) const;
  Failure readBase(const std::vector<Stretch>& parts, std::vector<uint8_t>& into) const;
  Failure write(const Stretch& part, const uint8_t* bytes, const uint8_t* before, std::vector<Stretch>& copied,
                uint32_t& crc32) const;
};

}  // namespace membacking
