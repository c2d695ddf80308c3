// Userfaultfds and ioctl(PAGEMAP_SCAN): the system calls.

#include "host/userfaultfd.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

// Newer than some of the system headers this builds with.
#ifndef UFFD_FEATURE_WP_HUGETLBFS_SHMEM
#define UFFD_FEATURE_WP_HUGETLBFS_SHMEM (1 << 12)
#endif
#ifndef UFFD_FEATURE_WP_UNPOPULATED
#define UFFD_FEATURE_WP_UNPOPULATED (1 << 13)
#endif
#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC (1 << 15)
#endif

namespace membacking {
namespace {

constexpr int kUserModeOnly = 1;                                      // UFFD_USER_MODE_ONLY
constexpr unsigned long kNewUserfaultfd = _IO(0xAA, 0);               // USERFAULTFD_IOC_NEW
constexpr unsigned long kScanPagemap = _IOWR('f', 16, ScanArgument);  // PAGEMAP_SCAN

int callUserfaultfd(int flags) { return static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | flags)); }

/// Opens one by the device, which needs no privilege but access to it; -1 where that fails.
int openByDevice() {
  const FileDescriptor device(::open("/dev/userfaultfd", O_RDWR | O_CLOEXEC));
  return device.isOpen() ? ::ioctl(device.get(), kNewUserfaultfd, O_CLOEXEC) : -1;
}

}  // namespace

const uint64_t kWaitFeatures = UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_HUGETLBFS_SHMEM;
const uint64_t kScanFeatures = kWaitFeatures | UFFD_FEATURE_WP_UNPOPULATED | UFFD_FEATURE_WP_ASYNC;

Failure openUserfaultfd(Userfaultfd& result) {
  result.fd = FileDescriptor(callUserfaultfd(0));
  if (result.fd.isOpen()) return kDone;
  const Failure failure = failedCall("userfaultfd");
  result.fd = FileDescriptor(openByDevice());
  if (result.fd.isOpen()) return kDone;
  result.fd = FileDescriptor(callUserfaultfd(kUserModeOnly));
  result.isUserModeOnly = result.fd.isOpen();
  return result.isUserModeOnly ? kDone : failure;
}

Failure enableUserfaultfd(int fd, uint64_t features) {
  uffdio_api api = {};
  api.api = UFFD_API;
  api.features = features;
  return ::ioctl(fd, UFFDIO_API, &api) == 0 ? kDone : failedCall("UFFDIO_API");
}

int writeProtect(int fd, uint64_t address, uint64_t length, bool isProtected) {
  uffdio_writeprotect change = {};
  change.range = {address, length};
  change.mode = isProtected ? UFFDIO_WRITEPROTECT_MODE_WP : 0;
  int error = 0;
  do {
    error = ::ioctl(fd, UFFDIO_WRITEPROTECT, &change) == 0 ? 0 : errno;
  } while (error == EINTR);
  return error;
}

int scanPagemap(int pagemap, ScanArgument& argument) { return ::ioctl(pagemap, kScanPagemap, &argument); }

}  // namespace membacking
