// Watch of writes: how it is opened, and a range armed.

#include "host/write_watch.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <utility>

#include "host/invariant.h"

namespace membacking {

Failure WriteWatch::open(std::shared_ptr<Pager> pager, std::unique_ptr<WriteWatch>& result) {
  auto watch = std::make_unique<WriteWatch>();
  if (pager != nullptr) {
    if (!pager->canWatch()) return {EINVAL, "UFFDIO_API", nullptr};
    pager->setWatched(true);
    watch->pager_ = std::move(pager);
  } else {
    Userfaultfd opened;
    if (const Failure failure = openUserfaultfd(opened)) return failure;
    if (const Failure failure = enableUserfaultfd(opened.fd.get(), kWatchFeatures)) return failure;
    watch->fd_ = std::move(opened.fd);
  }
  watch->pagemap_ = FileDescriptor(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  if (!watch->pagemap_.isOpen()) return failedCall("open");
  result = std::move(watch);
  return kDone;
}

WriteWatch::~WriteWatch() {
  if (pager_ != nullptr) pager_->setWatched(false);
}

bool WriteWatch::arm(const Mapping& mapping, uint64_t offset, uint64_t length, bool isPaged) {
  uffdio_register registration = {};
  registration.range.start = reinterpret_cast<uint64_t>(mapping.at(offset, length));
  registration.range.len = length;
  registration.mode = UFFDIO_REGISTER_MODE_WP | (isPaged ? UFFDIO_REGISTER_MODE_MISSING : 0);
  if (::ioctl(fd(), UFFDIO_REGISTER, &registration) != 0) return false;
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
