// Watch of writes: how it is opened, and a range armed.

#include "host/write_watch.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "host/invariant.h"

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

Failure WriteWatch::open(std::unique_ptr<WriteWatch>& result) {
  auto watch = std::make_unique<WriteWatch>();
  Userfaultfd opened;
  if (const Failure failure = openUserfaultfd(opened)) return failure;
  uffdio_api api = {};
  api.api = UFFD_API;
  api.features = UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_HUGETLBFS_SHMEM | UFFD_FEATURE_WP_UNPOPULATED |
                 UFFD_FEATURE_WP_ASYNC;
  if (::ioctl(opened.fd.get(), UFFDIO_API, &api) != 0) return failedCall("UFFDIO_API");
  watch->fd_ = std::move(opened.fd);
  watch->pagemap_ = FileDescriptor(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  if (!watch->pagemap_.isOpen()) return failedCall("open");
  result = std::move(watch);
  return kDone;
}

bool WriteWatch::arm(const Mapping& mapping, uint64_t offset, uint64_t length) {
  uffdio_register registration = {};
  registration.range.start = reinterpret_cast<uint64_t>(mapping.at(offset, length));
  registration.range.len = length;
  registration.mode = UFFDIO_REGISTER_MODE_WP;
  if (::ioctl(fd_.get(), UFFDIO_REGISTER, &registration) != 0) return false;
  // What was never asked for counts as written.
  return takeWritten(mapping, offset, length, [](uint64_t, uint64_t) {});
}

ScanArgument WriteWatch::argumentFor(const Mapping& mapping, uint64_t offset, uint64_t length) {
  ScanArgument scan = {};
  scan.flags = kProtectMatching | kCheckAsync;
  scan.start = reinterpret_cast<uint64_t>(mapping.at(offset, length));
  scan.end = scan.start + length;
  // SAFETY: the kernel writes at most `regionCount` regions there.
  scan.regions = reinterpret_cast<uint64_t>(regions_.data());
  scan.regionCount = regions_.size();
  scan.requiredCategories = kPageIsWritten;
  scan.returnedCategories = kPageIsWritten;
  return scan;
}

}  // namespace membacking
