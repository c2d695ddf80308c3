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
  static Failure open(std::unique_ptr<WriteWatch>& result);
  FaultWatch() : WriteWatch(WatchMethod::kFaults) {}

  bool arm(const HostRange& host, uint64_t offset, uint64_t length, PageOrigin origin) override;
  bool takeWritten(const HostRange& host, uint64_t offset, uint64_t length, const Found& found) override;
  void admit(uint64_t hva, uint64_t length, PageOrigin origin, bool isWrite) override;

 private:
  FaultThread::Patience takeTurn();
  void answer(const uffd_msg& message);
  bool letWrite(uint64_t address);
  bool bring(uint64_t address, bool isWrite);
  bool protect(uint64_t address, uint64_t length) const;

  FileDescriptor fd_;
  std::mutex mutex_;
  /// Pages that were written, by address, and are not protected any more. With the mutex.
  PageSet written_;
  /// The last member: it ends before what it uses goes.
  FaultThread thread_;
};

}  // namespace membacking
