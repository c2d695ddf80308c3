// Pages of host ranges: resident or not, huge or not, from which node. Nothing here changes what is mapped where.
//
// Ranges lie inside of their host range, in whole pages.
#pragma once

#include <cstdint>
#include <vector>

#include "host/host_range.h"
#include "host/stretch.h"

namespace membacking {

/// Makes every page resident, as if it had been written to (or read, where nothing may be written); contents stay.
/// EFAULT, ENOMEM: there is not enough, or the file ends before. EINVAL: the range has no such access.
Failure populatePages(const HostRange& host, uint64_t offset, uint64_t length, bool isWritable);
/// Makes the pages at an address resident, as above.
Failure populatePages(void* start, uint64_t length, bool isWritable);

/// Adds the bytes of memory and swap that the private pages in ranges alone use.
Failure countPrivate(const HostRange& host, const std::vector<Stretch>& ranges, uint64_t& bytes);
/// Finds which pages are in memory, so that reading them makes no other one resident: a byte for each, which is odd
/// then. Empty where the kernel does not say.
std::vector<uint8_t> findResident(const HostRange& host, uint64_t offset, uint64_t length);
/// Finds the pages of a range that are neither in memory nor in that of a file. Where the first is not, all count as it
/// does: the kernel takes long to look up what is in no page table.
std::vector<Stretch> findAbsent(const HostRange& host, uint64_t offset, uint64_t length);

/// Drops the private pages in the range, also locked ones.
Failure discardPages(const HostRange& host, uint64_t offset, uint64_t length);

/// Drops what is in private pages at an address, also in locked ones.
Failure dropPages(void* start, uint64_t length);

/// Makes every page resident, and keeps it so until the host range ends.
Failure lockPages(const HostRange& host, uint64_t offset, uint64_t length);
/// Keeps resident the pages that are, and those that become so. Any access will do.
Failure keepPages(const HostRange& host, uint64_t offset, uint64_t length);
/// Undoes lockPages() or keepPages().
Failure unlockPages(const HostRange& host, uint64_t offset, uint64_t length);

/// Takes pages that become resident later from this NUMA node. EINVAL: there is no such node.
Failure bindPages(const HostRange& host, uint64_t offset, uint64_t length, uint32_t node);

/// Asks for transparent huge pages where memory is touched later. EINVAL: there are none for such memory.
Failure adviseHugePages(const HostRange& host, uint64_t offset, uint64_t length);

/// Whether this machine heeds that advice when memory is touched: anonymous memory, or that of memfds.
bool hasHugePagesAtTouch(bool isMemfd);

/// Makes huge pages of resident ones, now, as far as that goes.
void collapsePages(const HostRange& host, uint64_t offset, uint64_t length);

}  // namespace membacking
