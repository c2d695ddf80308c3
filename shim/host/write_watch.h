// Watch of writes to memory of this process, whoever makes them: an instruction, a system call, a guest. The kernel
// write-protects pages and notes of each, at the first write, that it was written (userfaultfd with asynchronous
// write-protection, Linux 6.7); nobody waits for this process.
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "host/fd.h"
#include "host/mapping.h"
#include "host/pager.h"
#include "host/userfaultfd.h"

namespace membacking {

/// Watch of any number of ranges. The kernel knows them by their mappings: what is mapped over one, or moved elsewhere,
/// is not watched. Its end ends the watch, but where a pager shares its descriptor: there, nobody asks any more.
class WriteWatch {
 public:
  /// EINVAL, ENOTTY: this kernel cannot; EPERM, ENOSYS: it does not let this process.
  /// `pager`: one that has its userfaultfd at some of these addresses, which is then the watch's too; null for none.
  static Failure open(std::shared_ptr<Pager> pager, std::unique_ptr<WriteWatch>& result);
  WriteWatch() = default;
  ~WriteWatch();
  WriteWatch(const WriteWatch&) = delete;

  // Ranges are whole pages inside of `mapping`.

  /// Begins to watch a range: pages written from now on. `isPaged`: the pager brings its pages. Returns whether the
  /// kernel does.
  bool arm(const Mapping& mapping, uint64_t offset, uint64_t length, bool isPaged);

  /// Calls `written(offset, length)` for all pages of a range that were written since it was armed or asked for last,
  /// upwards. Returns whether the kernel could say; otherwise any page of the range may have been written, and the
  /// range is to be armed again.
  template <typename Written>
  bool takeWritten(const Mapping& mapping, uint64_t offset, uint64_t length, Written written) {
    ScanArgument scan = argumentFor(mapping, offset, length);
    while (scan.start != scan.end) {
      const int count = scanPagemap(pagemap_.get(), scan);
      if (count < 0) return false;
      for (int index = 0; index < count; index++) {
        written(mapping.offsetOf(regions_[index].start), regions_[index].end - regions_[index].start);
      }
      scan.start = scan.walkEnd;
    }
    return true;
  }

 private:
  ScanArgument argumentFor(const Mapping& mapping, uint64_t offset, uint64_t length);
  int fd() const { return pager_ != nullptr ? pager_->fd() : fd_.get(); }

  std::shared_ptr<Pager> pager_;
  /// The watch's own userfaultfd, where there is no pager.
  FileDescriptor fd_;
  FileDescriptor pagemap_;
  /// Answer of a scan.
  std::array<PageRegion, 4096> regions_;
};

}  // namespace membacking
