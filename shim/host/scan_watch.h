// Watches by scans: the kernel write-protects pages and notes of each, at the first write, that it was written
// (userfaultfd with asynchronous write-protection, Linux 6.7); nobody waits for this process.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "host/fd.h"
#include "host/pagemap.h"
#include "host/userfaultfd.h"
#include "host/write_watch.h"

namespace membacking {

/// Watch by scans. Where a pager shares its descriptor, the watch does not end: nobody asks any more.
class ScanWatch : public WriteWatch {
 public:
  static Failure open(std::shared_ptr<Pager> pager, std::unique_ptr<WriteWatch>& result);
  ScanWatch() : WriteWatch(WatchMethod::kScans) {}
  ~ScanWatch() override;

  WriteWatch* arm(const HostRange& host, uint64_t offset, uint64_t length, PageOrigin origin) override;
  bool takeWritten(const HostRange& host, uint64_t offset, uint64_t length, const Found& found) override;

 private:
  ScanArgument argumentFor(const HostRange& host, uint64_t offset, uint64_t length);
  int fd() const { return pager_ != nullptr ? pager_->fd() : fd_.get(); }

  std::shared_ptr<Pager> pager_;
  /// The watch's own userfaultfd, where there is no pager.
  FileDescriptor fd_;
  Pagemap pagemap_;
  /// Answer of a scan.
  std::array<PageRegion, 4096> regions_;
};

}  // namespace membacking
