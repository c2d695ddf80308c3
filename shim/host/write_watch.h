// Watches of writes to memory of this process, whoever makes them: an instruction, a system call, a guest. How they
// find out is theirs; see scan_watch.h and fault_watch.h.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "host/host_range.h"
#include "host/pager.h"

namespace membacking {

/// Way to find out what was written. By scans: the kernel notes it, and is asked. By faults: who writes to a page first
/// waits until this process has noted it.
enum class WatchMethod { kScans, kFaults };

/// Origin of pages when they are touched first: a file, nothing (they are zeroes), a pager.
enum class PageOrigin { kFile, kNothing, kPager };

/// Watch of any number of ranges. The kernel knows them by their mappings: what is mapped over one, or moved elsewhere,
/// is not watched. Its end ends the watch.
class WriteWatch {
 public:
  /// EINVAL, ENOTTY: this kernel cannot; EPERM, ENOSYS: it does not let this process.
  /// `pager`: one that has its userfaultfd at some of these addresses, which is then the watch's too; null for none.
  static Failure open(WatchMethod method, std::shared_ptr<Pager> pager, std::unique_ptr<WriteWatch>& result);
  virtual ~WriteWatch() = default;

  // Ranges are whole pages inside of `host`.

  /// Begins to watch a range: pages written from now on. Returns who does so and is to be asked: this one, or one that
  /// goes with it; null where the kernel does not.
  virtual WriteWatch* arm(const HostRange& host, uint64_t offset, uint64_t length, PageOrigin origin) = 0;

  /// Pages that follow each other: their offset in `host`, and bytes.
  using Found = std::function<void(uint64_t offset, uint64_t length)>;
  /// Finds all pages that were written of a range that this one watches, since it was armed or asked for last, upwards,
  /// and calls `found` for them. Returns whether that is known; otherwise any page of the range may have been written,
  /// and the range is to be armed again.
  virtual bool takeWritten(const HostRange& host, uint64_t offset, uint64_t length, const Found& found) = 0;

  /// Prepares addresses for who reads or writes /proc/self/mem, where the kernel does not wait for faults. What is
  /// prepared for a write counts as written.
  virtual void admit(uint64_t, uint64_t, PageOrigin, bool) {}

  const WatchMethod method;

 protected:
  explicit WriteWatch(WatchMethod method) : method(method) {}
};

}  // namespace membacking
