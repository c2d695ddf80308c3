// The kernel's list of this process's pages: /proc/self/pagemap, as its admin-guide/mm/pagemap.rst describes it.
#pragma once

#include <cstdint>

#include "host/failure.h"
#include "host/fd.h"

namespace membacking {

/// Entries of pages, 64 bits each, of which these say how a page is.
class Pagemap {
 public:
  static constexpr uint64_t kMappedOnce = uint64_t{1} << 56;
  static constexpr uint64_t kWriteProtected = uint64_t{1} << 57;
  static constexpr uint64_t kOfFile = uint64_t{1} << 61;
  static constexpr uint64_t kSwapped = uint64_t{1} << 62;
  static constexpr uint64_t kPresent = uint64_t{1} << 63;

  static Failure open(Pagemap& result);

  int fd() const { return fd_.get(); }
  /// Reads the entries of `count` pages from `hva` on.
  Failure read(uint64_t hva, uint64_t count, uint64_t* entries) const;

 private:
  FileDescriptor fd_;
};

}  // namespace membacking
