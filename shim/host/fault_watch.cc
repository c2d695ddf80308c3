// Watches by faults: the thread, and what it answers.

#include "host/fault_watch.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <utility>

#include "host/scan_watch.h"

namespace membacking {
namespace {

/// Bytes of pages, of which a fault does not say how large its own is: ordinary and huge ones.
constexpr uint64_t kPageSizes[] = {kPageSize, uint64_t{1} << 21, uint64_t{1} << 30};

}  // namespace

Failure FaultWatch::open(std::shared_ptr<Pager> pager, std::unique_ptr<WriteWatch>& result) {
  auto watch = std::make_unique<FaultWatch>(nullptr);
  Userfaultfd opened;
  if (const Failure failure = openUserfaultfd(opened)) return failure;
  if (opened.isUserModeOnly) return {EPERM, "userfaultfd", "this process may not see what the kernel writes for it"};
  if (const Failure failure = enableUserfaultfd(opened.fd.get(), kWaitFeatures)) return failure;
  if (::fcntl(opened.fd.get(), F_SETFL, O_NONBLOCK) != 0) return failedCall("fcntl");
  watch->fd_ = std::move(opened.fd);
  const auto turn = [self = watch.get()] { return self->takeTurn(); };
  if (const Failure failure = watch->thread_.start("membacking-dirt", watch->fd_.get(), turn)) return failure;
  if (const Failure failure = openOthers(std::move(pager), watch->others_)) return failure;
  result = std::move(watch);
  return kDone;
}

/// Opens the watch of what a pager brings, and of files on disk.
Failure FaultWatch::openOthers(std::shared_ptr<Pager> pager, std::unique_ptr<WriteWatch>& result) {
  if (pager == nullptr || pager->canScan()) {
    const bool isNeeded = pager != nullptr;
    const Failure failure = ScanWatch::open(std::move(pager), result);
    // This kernel has no scans: files on disk are not watched.
    return failure.error == EINVAL && !isNeeded ? kDone : failure;
  }
  auto watch = std::make_unique<FaultWatch>(std::move(pager));
  watch->pager_->beginWatch([self = watch.get()](uint64_t address) { return self->letWrite(address); });
  result = std::move(watch);
  return kDone;
}

FaultWatch::~FaultWatch() {
  if (pager_ != nullptr) pager_->endWatch();
}

WriteWatch* FaultWatch::arm(const HostRange& host, uint64_t offset, uint64_t length, PageOrigin origin) {
  uffdio_register registration = {};
  registration.range.start = reinterpret_cast<uint64_t>(host.at(offset, length));
  registration.range.len = length;
  registration.mode = UFFDIO_REGISTER_MODE_WP | (origin != PageOrigin::kFile ? UFFDIO_REGISTER_MODE_MISSING : 0);
  if (::ioctl(fd(), UFFDIO_REGISTER, &registration) != 0) {
    return others_ != nullptr ? others_->arm(host, offset, length, origin) : nullptr;
  }
  std::unique_lock lock(mutex_);
  written_.take(registration.range.start, registration.range.start + length);
  return protect(lock, registration.range.start, length) ? this : nullptr;
}

bool FaultWatch::takeWritten(const HostRange& host, uint64_t offset, uint64_t length, const Found& found) {
  const auto start = reinterpret_cast<uint64_t>(host.at(offset, length));
  std::unique_lock lock(mutex_);
  for (const Stretch& pages : written_.take(start, start + length)) {
    if (!protect(lock, pages.offset, pages.length)) return false;
    found(host.offsetOf(pages.offset), pages.length);
  }
  return true;
}

void FaultWatch::admit(uint64_t hva, uint64_t length, PageOrigin origin, bool isWrite) {
  if (others_ != nullptr && origin == PageOrigin::kPager) return others_->admit(hva, length, origin, isWrite);
  const uint64_t end = hva + length;
  for (uint64_t page = pageStart(hva); page < end; page += kPageSize) {
    const bool isBrought = origin == PageOrigin::kNothing && bring(page, isWrite);
    // Where one is already, it may be protected.
    while (isWrite && !isBrought && letWrite(page) == EAGAIN) ::sched_yield();
  }
}

/// Protects a range. Returns whether the kernel does.
bool FaultWatch::protect(std::unique_lock<std::mutex>& lock, uint64_t address, uint64_t length) const {
  uint64_t most = length;
  for (const uint64_t end = address + length; address != end;) {
    const uint64_t tried = std::min(end - address, most);
    const int error = writeProtect(fd(), address, tried, true);
    if (error == EAGAIN) {
      // Who has to hear first where pages are being moved may wait for the lock.
      lock.unlock();
      ::sched_yield();
      lock.lock();
      continue;
    }
    if (error == ENOENT && tried != kPageSize) {
      // Some kernels do so in one piece (VMA) at a time, and protections cut the range into several.
      most = tried / 2 / kPageSize * kPageSize;
      continue;
    }
    if (error != 0) return false;
    address += tried;
    most = length;
  }
  return true;
}

FaultThread::Patience FaultWatch::takeTurn() {
  readUserfaults(fd_.get(), [this](const uffd_msg& message) {
    answer(message);
    thread_.stayAwake();
  });
  return -1;
}

void FaultWatch::answer(const uffd_msg& message) {
  const uint64_t address = pageStart(message.arg.pagefault.address);
  const uint64_t flags = message.arg.pagefault.flags;
  const bool isProtected = (flags & UFFD_PAGEFAULT_FLAG_WP) != 0;
  if (isProtected ? letWrite(address) == 0 : bring(address, (flags & UFFD_PAGEFAULT_FLAG_WRITE) != 0)) return;
  // What was there has gone meanwhile: whoever waits finds what is there now.
  uffdio_range range = {address, kPageSize};
  ::ioctl(fd(), UFFDIO_WAKE, &range);
}

/// Notes that a page is written, and lets that through. Returns 0 where who waits was woken, or an errno; EAGAIN: pages
/// are being moved.
int FaultWatch::letWrite(uint64_t address) {
  const std::lock_guard lock(mutex_);
  int error = EINVAL;
  for (const uint64_t size : kPageSizes) {
    const uint64_t start = address & ~(size - 1);
    error = writeProtect(fd(), start, size, false);
    if (error == 0) written_.add(start, size);
    if (error != EINVAL) break;
  }
  return error;
}

/// Brings a page of zeroes where nothing is yet, and notes it if it is to be written. Returns whether who waits was
/// woken.
bool FaultWatch::bring(uint64_t address, bool isWrite) {
  uffdio_copy zero = {};
  zero.dst = address;
  // SAFETY: the kernel reads a page of zeroes.
  zero.src = reinterpret_cast<uint64_t>(kZeroes);
  zero.len = kPageSize;
  zero.mode = isWrite ? 0 : UFFDIO_COPY_MODE_WP;
  const std::lock_guard lock(mutex_);
  if (::ioctl(fd(), UFFDIO_COPY, &zero) != 0) return false;
  if (isWrite) written_.add(address, kPageSize);
  return true;
}

}  // namespace membacking
