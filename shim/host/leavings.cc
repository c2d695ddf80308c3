// Leavings: taking pages out of host ranges, and giving them back in parts.

#include "host/leavings.h"

#include <algorithm>
#include <utility>

#include "host/object.h"
#include "host/pages.h"

namespace membacking {
namespace {

/// Bytes from which on moving pages costs less than freeing them.
constexpr uint64_t kWorthwhile = 512 * 1024;
/// Most mappings that are kept at once, of those that a process may have.
constexpr size_t kMostKept = 256;
/// Bytes that are freed at once, within a millisecond or two.
constexpr uint64_t kPart = 8 * 1024 * 1024;

/// Frees the pages of a host range, which stays.
void freePages(const HostRange& host) {
  for (uint64_t done = 0; done != host.size();) {
    const uint64_t length = std::min(kPart, host.size() - done);
    // What is not freed here goes with the range.
    static_cast<void>(discardPages(host, host.start() + done, length));
    done += length;
  }
}

}  // namespace

bool Leavings::take(HostRange& from, uint64_t offset, uint64_t length, Pager* pager) {
  if (length < kWorthwhile || pages_.size() == kMostKept) return false;
  HostRange kept;
  // At the same offsets, so that whole page tables move.
  if (HostRange::reserve(length, "", kept, offset)) return false;
  const bool isTaken = !from.movePages(kept, offset, offset, length);
  if (pager != nullptr) pager->noteTaken(kept.addressOf(offset), from.addressOf(offset), length);
  pages_.push_back(std::move(kept));
  return isTaken;
}

Failure Leavings::count(uint64_t& bytes) const {
  for (const HostRange& kept : pages_) {
    if (const Failure failure = countPrivate(kept, {{kept.start(), kept.size()}}, bytes)) return failure;
  }
  return kDone;
}

void Leavings::free() {
  for (const HostRange& kept : pages_) freePages(kept);
  pages_.clear();
  for (const std::shared_ptr<MemoryObject>& object : objects_) {
    // Nobody gets a share of one that nobody else has.
    if (object.use_count() != 1) continue;
    freePages(object->home);
    freePages(object->pinning);
  }
  objects_.clear();
}

}  // namespace membacking
