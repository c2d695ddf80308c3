// The machine: userfaultfd, PAGEMAP_SCAN and protection keys, each tried and given back.

#include "host/machine.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "host/fd.h"

namespace membacking {
namespace {

// Numbers that headers older than these features lack.
constexpr int kUserModeOnly = 1;                         // UFFD_USER_MODE_ONLY
constexpr unsigned long kNewUserfaultfd = _IO(0xAA, 0);  // USERFAULTFD_IOC_NEW

/// struct pm_scan_arg of linux/fs.h.
struct ScanArgument {
  uint64_t size;
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
constexpr unsigned long kScanPagemap = _IOWR('f', 16, ScanArgument);  // PAGEMAP_SCAN
constexpr uint64_t kPagePresent = 1 << 3;                              // PAGE_IS_PRESENT

int openUserfaultfd(int flags) { return static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | flags)); }

/// Opens one by the device, which needs no privilege but access to it; -1 where that fails.
int openUserfaultfdDevice() {
  const FileDescriptor device(::open("/dev/userfaultfd", O_RDWR | O_CLOEXEC));
  return device.isOpen() ? ::ioctl(device.get(), kNewUserfaultfd, O_CLOEXEC) : -1;
}

void askUserfaultfd(MachineAnswers& answers) {
  FileDescriptor fd(openUserfaultfd(0));
  if (!fd.isOpen()) {
    answers.userfaultfdError = errno;
    fd = FileDescriptor(openUserfaultfdDevice());
  }
  if (!fd.isOpen()) {
    fd = FileDescriptor(openUserfaultfd(kUserModeOnly));
    answers.isUserModeOnly = fd.isOpen();
  }
  if (!fd.isOpen()) return;
  uffdio_api api = {};
  api.api = UFFD_API;
  answers.userfaultfdError = ::ioctl(fd.get(), UFFDIO_API, &api) < 0 ? errno : 0;
  answers.userfaultfdFeatures = api.features;
}

int askPagemapScan() {
  const FileDescriptor pagemap(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  if (!pagemap.isOpen()) return errno;
  ScanArgument scan = {};
  scan.size = sizeof scan;
  scan.end = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  scan.returnedCategories = kPagePresent;
  uint64_t region[3] = {};
  // SAFETY: the kernel writes at most `regionCount` regions of three words there.
  scan.regions = reinterpret_cast<uint64_t>(&region);
  scan.regionCount = 1;
  return ::ioctl(pagemap.get(), kScanPagemap, &scan) < 0 ? errno : 0;
}

int askProtectionKeys() {
  const auto key = ::syscall(SYS_pkey_alloc, 0, 0);
  if (key < 0) return errno;
  ::syscall(SYS_pkey_free, key);
  return 0;
}

}  // namespace

MachineAnswers askMachine() {
  MachineAnswers answers;
  askUserfaultfd(answers);
  answers.pagemapScanError = askPagemapScan();
  answers.protectionKeysError = askProtectionKeys();
  return answers;
}

}  // namespace membacking
