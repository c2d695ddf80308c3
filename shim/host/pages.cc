// Pages of host ranges: the system calls that make them resident, drop, lock, bind and join them.
#include "host/pages.h"

#include <fcntl.h>
#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <string>
#include <vector>

#include "host/fault_guard.h"
#include "host/pagemap.h"
#include "host/small_file.h"

// Newer than some of the system headers this builds with.
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

namespace membacking {
namespace {

/// Whether this kernel knows MADV_POPULATE_*. Asks it to populate nothing.
bool canPopulate() {
  static const bool can = ::madvise(nullptr, 0, MADV_POPULATE_WRITE) == 0;
  return can;
}

/// Touches page by page, with the errors of MADV_POPULATE_*.
Failure touchPages(void* start, uint64_t length, bool isWritable) {
  installFaultGuard();
  const uint64_t hva = reinterpret_cast<uint64_t>(start);
  for (uint64_t done = 0; done != length; done += kPageSize) {
    uint64_t zero = 0;
    // An exchange of 0 for 0 changes nothing, and whoever writes there at the same time loses nothing.
    const int signal = isWritable ? guardedExchange(hva + done, 1, zero, 0) : guardedLoad(hva + done, 1, zero);
    if (signal != 0) return {signal == SIGSEGV ? EINVAL : EFAULT, "madvise", nullptr};
  }
  return kDone;
}

/// Adds the bytes in memory or swap that belong to this process alone, of the pages in the range.
Failure countRange(const Pagemap& pagemap, uint64_t hva, uint64_t length, uint64_t& bytes) {
  uint64_t entries[512];
  for (uint64_t left = length / kPageSize; left != 0;) {
    const uint64_t count = std::min<uint64_t>(left, std::size(entries));
    if (const Failure failure = pagemap.read(hva, count, entries)) return failure;
    bytes += kPageSize * static_cast<uint64_t>(std::count_if(entries, entries + count, [](uint64_t entry) {
               const bool isOwn = (entry & (Pagemap::kMappedOnce | Pagemap::kOfFile)) == Pagemap::kMappedOnce;
               return isOwn || (entry & Pagemap::kSwapped) != 0;
             }));
    hva += count * kPageSize;
    left -= count;
  }
  return kDone;
}

/// The choice in brackets of a file like "always [madvise] never"; empty when there is no such file.
std::string readChoice(const std::string& path) {
  const std::string text = readSmallFile("/sys/kernel/mm/transparent_hugepage/" + path);
  const size_t start = text.find('[');
  const size_t end = text.find(']');
  return start < end && end != text.npos ? text.substr(start + 1, end - start - 1) : std::string();
}

}  // namespace

Failure populatePages(const HostRange& host, uint64_t offset, uint64_t length, bool isWritable) {
  return populatePages(host.at(offset, length), length, isWritable);
}

Failure populatePages(void* start, uint64_t length, bool isWritable) {
  if (!canPopulate()) return touchPages(start, length, isWritable);
  return ::madvise(start, length, isWritable ? MADV_POPULATE_WRITE : MADV_POPULATE_READ) == 0 ? kDone
                                                                                              : failedCall("madvise");
}

Failure countPrivate(const HostRange& host, const std::vector<Stretch>& ranges, uint64_t& bytes) {
  Pagemap pagemap;
  if (const Failure failure = Pagemap::open(pagemap)) return failure;
  for (const auto& [offset, length] : ranges) {
    if (const Failure failure = countRange(pagemap, host.addressOf(offset), length, bytes)) return failure;
  }
  return kDone;
}

std::vector<uint8_t> findResident(const HostRange& host, uint64_t offset, uint64_t length) {
  std::vector<uint8_t> pages(length / kPageSize);
  if (::mincore(host.at(offset, length), length, pages.data()) != 0) pages.clear();
  return pages;
}

std::vector<Stretch> findAbsent(const HostRange& host, uint64_t offset, uint64_t length) {
  const auto isAbsent = [](uint8_t page) { return (page & 1) == 0; };
  const std::vector<uint8_t> first = findResident(host, offset, kPageSize);
  if (!first.empty() && isAbsent(first[0])) return {{offset, length}};
  std::vector<Stretch> absent;
  const std::vector<uint8_t> resident = findResident(host, offset, length);
  for (size_t page = 0; page != resident.size(); page++) {
    if (isAbsent(resident[page])) appendStretch(absent, offset + page * kPageSize, kPageSize);
  }
  return absent;
}

Failure discardPages(const HostRange& host, uint64_t offset, uint64_t length) {
  return dropPages(host.at(offset, length), length);
}

Failure dropPages(void* start, uint64_t length) {
  // EINVAL: some of it is locked.
  if (::madvise(start, length, MADV_DONTNEED) == 0) return kDone;
  if (errno == EINVAL && ::madvise(start, length, MADV_DONTNEED_LOCKED) == 0) return kDone;
  return failedCall("madvise");
}

Failure lockPages(const HostRange& host, uint64_t offset, uint64_t length) {
  void* start = host.at(offset, length);
  if (::mlock(start, length) == 0) return kDone;
  const Failure failure = failedCall("mlock");
  ::munlock(start, length);
  return failure;
}

Failure keepPages(const HostRange& host, uint64_t offset, uint64_t length) {
  constexpr unsigned kOnFault = 1;  // MLOCK_ONFAULT
  return ::syscall(SYS_mlock2, host.at(offset, length), length, kOnFault) == 0 ? kDone : failedCall("mlock2");
}

Failure unlockPages(const HostRange& host, uint64_t offset, uint64_t length) {
  return ::munlock(host.at(offset, length), length) == 0 ? kDone : failedCall("munlock");
}

Failure bindPages(const HostRange& host, uint64_t offset, uint64_t length, uint32_t node) {
  constexpr uint32_t kMostNodes = 1024;
  constexpr uint32_t kBits = 8 * sizeof(unsigned long);
  constexpr Failure kAbsent{EINVAL, "mbind", "this machine has no such NUMA node"};
  if (node >= kMostNodes) return kAbsent;
  unsigned long nodes[kMostNodes / kBits] = {};
  nodes[node / kBits] = 1ul << node % kBits;
  // The kernel takes one off the number of bits that it is told.
  if (::syscall(SYS_mbind, host.at(offset, length), length, MPOL_BIND, nodes, kMostNodes + 1, 0) == 0) return kDone;
  return errno == EINVAL ? kAbsent : failedCall("mbind");
}

Failure adviseHugePages(const HostRange& host, uint64_t offset, uint64_t length) {
  return ::madvise(host.at(offset, length), length, MADV_HUGEPAGE) == 0 ? kDone : failedCall("madvise");
}

bool hasHugePagesAtTouch(bool isMemfd) {
  const std::string setting = isMemfd ? "shmem_enabled" : "enabled";
  std::string choice = readChoice("hugepages-" + std::to_string(kHugePageSize / 1024) + "kB/" + setting);
  if (choice.empty() || choice == "inherit") choice = readChoice(setting);
  return !choice.empty() && choice != "never" && choice != "deny";
}

void collapsePages(const HostRange& host, uint64_t offset, uint64_t length) {
  // An old kernel says EINVAL, a busy one EAGAIN or ENOMEM: the memory is as good as before.
  ::madvise(host.at(offset, length), length, MADV_COLLAPSE);
}

}  // namespace membacking
