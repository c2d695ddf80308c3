// Userfaultfds and ioctl(PAGEMAP_SCAN): the system calls.

#include "host/userfaultfd.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

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

int scanPagemap(int pagemap, ScanArgument& argument) { return ::ioctl(pagemap, kScanPagemap, &argument); }

}  // namespace membacking
