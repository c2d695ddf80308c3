// Watches by scans: how they are opened, a range armed, and asked for.

#include "host/scan_watch.h"

#include <fcntl.h>
#include <sys/ioctl.h>

#include <utility>

namespace membacking {

Failure ScanWatch::open(std::shared_ptr<Pager> pager, std::unique_ptr<WriteWatch>& result) {
  auto watch = std::make_unique<ScanWatch>();
  if (pager != nullptr) {
    if (!pager->canScan()) return {EINVAL, "UFFDIO_API", nullptr};
    pager->beginWatch(nullptr);
    watch->pager_ = std::move(pager);
  } else {
    Userfaultfd opened;
    if (const Failure failure = openUserfaultfd(opened)) return failure;
    if (const Failure failure = enableUserfaultfd(opened.fd.get(), kScanFeatures)) return failure;
    watch->fd_ = std::move(opened.fd);
  }
  if (const Failure failure = Pagemap::open(watch->pagemap_)) return failure;
  result = std::move(watch);
  return kDone;
}

ScanWatch::~ScanWatch() {
  if (pager_ != nullptr) pager_->endWatch();
}

WriteWatch* ScanWatch::arm(const HostRange& host, uint64_t offset, uint64_t length, PageOrigin origin) {
  uffdio_register registration = {};
  registration.range.start = reinterpret_cast<uint64_t>(host.at(offset, length));
  registration.range.len = length;
  registration.mode = UFFDIO_REGISTER_MODE_WP | (origin == PageOrigin::kPager ? UFFDIO_REGISTER_MODE_MISSING : 0);
  if (::ioctl(fd(), UFFDIO_REGISTER, &registration) != 0) return nullptr;
  // What was never asked for counts as written.
  return takeWritten(host, offset, length, [](uint64_t, uint64_t) {}) ? this : nullptr;
}

bool ScanWatch::takeWritten(const HostRange& host, uint64_t offset, uint64_t length, const Found& found) {
  ScanArgument scan = argumentFor(host, offset, length);
  while (scan.start != scan.end) {
    const int count = scanPagemap(pagemap_.fd(), scan);
    if (count < 0) return false;
    for (int index = 0; index < count; index++) {
      found(host.offsetOf(regions_[index].start), regions_[index].end - regions_[index].start);
    }
    scan.start = scan.walkEnd;
  }
  return true;
}

ScanArgument ScanWatch::argumentFor(const HostRange& host, uint64_t offset, uint64_t length) {
  ScanArgument scan = {};
  scan.flags = kProtectMatching | kCheckAsync;
  scan.start = reinterpret_cast<uint64_t>(host.at(offset, length));
  scan.end = scan.start + length;
  // SAFETY: the kernel writes at most `regionCount` regions there.
  scan.regions = reinterpret_cast<uint64_t>(regions_.data());
  scan.regionCount = regions_.size();
  scan.requiredCategories = kPageIsWritten;
  scan.returnedCategories = kPageIsWritten;
  return scan;
}

}  // namespace membacking
