// Watches by faults: pages are write-protected, and who writes to one first waits until a thread of the watch has noted
// that, and let the write through (userfaultfd, Linux 5.19).
//
// Of memory without a file, the kernel protects only pages that are there. Of others, the first touch waits too, and
// the thread brings a page of zeroes, protected if it was only read.
//
//   who writes                the thread                       who asks
//   waits ................... notes, lets through   \ under    takes the notes, protects these pages again
//   writes                                          / a mutex
//
// Both are one step for the other: no page is ever let through and not noted.
//
// What a pager brings has its faults told to the pager's thread, which answers these, too. Files on disk, and what a
// pager brings where the kernel takes notes for it, are asked for by scans, if the kernel has them.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "host/fault_thread.h"
#include "host/fd.h"
#include "host/page_set.h"
#include "host/userfaultfd.h"
#include "host/write_watch.h"

namespace membacking {

/// Watch by faults. It needs the faults of the kernel's own code, which writes for guests and system calls.
class FaultWatch : public WriteWatch {
 public:
  static Failure open(std::shared_ptr<Pager> pager, std::unique_ptr<WriteWatch>& result);
  /// `pager`: one whose thread is told of the faults; null: a thread of the watch's own is.
  explicit FaultWatch(std::shared_ptr<Pager> pager) : WriteWatch(WatchMethod::kFaults), pager_(std::move(pager)) {}
  ~FaultWatch() override;

  WriteWatch* arm(const HostRange& host, uint64_t offset, uint64_t length, PageOrigin origin) override;
  bool takeWritten(const HostRange& host, uint64_t offset, uint64_t length, const Found& found) override;
  void admit(uint64_t hva, uint64_t length, PageOrigin origin, bool isWrite) override;

 private:
  static Failure openOthers(std::shared_ptr<Pager> pager, std::unique_ptr<WriteWatch>& result);
  int fd() const { return pager_ != nullptr ? pager_->fd() : fd_.get(); }
  FaultThread::Patience takeTurn();
  void answer(const uffd_msg& message);
  int letWrite(uint64_t address);
  bool bring(uint64_t address, bool isWrite);
  bool protect(std::unique_lock<std::mutex>& lock, uint64_t address, uint64_t length) const;

  const std::shared_ptr<Pager> pager_;
  /// The watch's own userfaultfd, where there is no pager.
  FileDescriptor fd_;
  /// Watch of ranges that this one cannot; null: none.
  std::unique_ptr<WriteWatch> others_;
  std::mutex mutex_;
  /// Pages that were written, by address, and are not protected any more. With the mutex.
  PageSet written_;
  /// The last member: it ends before what it uses goes.
  FaultThread thread_;
};

}  // namespace membacking
