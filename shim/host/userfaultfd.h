// Userfaultfds and ioctl(PAGEMAP_SCAN): how they are opened and called, with the numbers that older headers lack.
#pragma once

#include <linux/userfaultfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "host/failure.h"
#include "host/fd.h"
#include "host/host_range.h"
#include "host/invariant.h"

namespace membacking {

/// A userfaultfd of which nothing was asked yet.
struct Userfaultfd {
  FileDescriptor fd;
  /// Whether it gets the faults of this process's own code alone, not those of KVM for a guest.
  bool isUserModeOnly = false;
};

/// Opens one in the way that allows most. A failure is that of the first way.
Failure openUserfaultfd(Userfaultfd& result);

/// Features by which the kernel lets writes through with a note of them (UFFD_FEATURE_*).
extern const uint64_t kScanFeatures;
/// Features by which writes wait until they are let through.
extern const uint64_t kWaitFeatures;

/// Asks a userfaultfd of which nothing was asked yet for features. EINVAL: this kernel has not all of them.
Failure enableUserfaultfd(int fd, uint64_t features);

/// Protects a range, or lets writes through to it and wakes who waits. Returns 0 or an errno; EAGAIN: pages are being
/// moved, and who reads the messages has yet to hear of that.
int writeProtect(int fd, uint64_t address, uint64_t length, bool isProtected);

/// A page that is copied where there is to be one of zeroes.
inline const uint8_t kZeroes[kPageSize] = {};

/// Reads what a userfaultfd, which does not block, has to tell, and calls `what(message)` for each message.
template <typename Do>
void readUserfaults(int fd, Do what) {
  constexpr ssize_t kAtOnce = 16;
  uffd_msg messages[kAtOnce];
  ssize_t count = 0;
  do {
    const ssize_t bytes = ::read(fd, messages, sizeof messages);
    INVARIANT(bytes > 0 || errno == EAGAIN || errno == EINTR);
    count = bytes < 0 && errno == EINTR ? kAtOnce : bytes / static_cast<ssize_t>(sizeof *messages);
    for (const uffd_msg* message = messages; bytes > 0 && message != messages + count; message++) what(*message);
    // Fewer than there is room for: there are no more.
  } while (count == kAtOnce);
}

/// struct page_region of linux/fs.h.
struct PageRegion {
  uint64_t start;
  uint64_t end;
  uint64_t categories;
};

/// struct pm_scan_arg of linux/fs.h.
struct ScanArgument {
  uint64_t size = sizeof(ScanArgument);
  uint64_t flags;
  uint64_t start;
  uint64_t end;
  uint64_t walkEnd;
  uint64_t regions;
  uint64_t regionCount;
  uint64_t maxPages;
  uint64_t invertedCategories;
  uint64_t requiredCategories;
  uint64_t anyCategories;
  uint64_t returnedCategories;
};

constexpr uint64_t kPageIsWritten = 1 << 1;    // PAGE_IS_WRITTEN
constexpr uint64_t kPageIsPresent = 1 << 3;    // PAGE_IS_PRESENT
constexpr uint64_t kProtectMatching = 1 << 0;  // PM_SCAN_WP_MATCHING
constexpr uint64_t kCheckAsync = 1 << 1;       // PM_SCAN_CHECK_WPASYNC

/// Calls ioctl(PAGEMAP_SCAN) on a descriptor of /proc/self/pagemap. The number of regions, or -1 and errno.
int scanPagemap(int pagemap, ScanArgument& argument);

}  // namespace membacking
