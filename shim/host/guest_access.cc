// Guest memory: each access is checked against the VA space and its limits, then made by a guarded instruction.
#include "host/guest_access.h"

#include <signal.h>

#include <algorithm>

#include "host/fault_guard.h"
#include "host/invariant.h"
#include "host/write_hold.h"

namespace membacking {
namespace {

/// Bytes that are copied under one hold of the limits.
constexpr uint64_t kMostAtOnce = uint64_t{1} << 20;

/// Error for an access that `use` does not allow.
AccessError errorOf(Use use) {
  return use == Use::kRead ? AccessError::kReadOnly : AccessError::kHole;
}

/// Makes a guarded write, again if it faulted only because writes were held.
template <typename Write>
int pastHolds(Write write) {
  for (;;) {
    const uint64_t ended = WriteHold::ended();
    const int signal = write();
    if (signal == 0 || !WriteHold::hasEndedSince(ended)) return signal;
  }
}

}  // namespace

/// Refuses a range that leaves the VA space, overflow included, or may not be used so.
AccessError GuestMemory::refuse(const LimitsHold& hold, uint64_t gpa, uint64_t length, bool isWrite) const {
  if (gpa > size || length > size - gpa) return AccessError::kOutside;
  Use use = Use::kAll;
  return hold.firstRefused(gpa, gpa + length, isWrite, use) == gpa + length ? AccessError::kNone : errorOf(use);
}

/// Error of a guarded access that ended with `signal` at `gpa`.
AccessResult GuestMemory::explain(int signal, uint64_t gpa, bool isWrite) const {
  if (signal == SIGBUS) return {AccessError::kGone, gpa};
  uint64_t ignored = 0;
  const bool isReadable = isWrite && guardedLoad(base + gpa, 1, ignored) == 0;
  return {isReadable ? AccessError::kReadOnly : AccessError::kHole, gpa};
}

/// Copies as far as the VA space and its limits reach, a part at a time, so that nobody who changes limits waits long.
/// `copy(offset, hva, length, done)` gives 0 or a signal.
template <typename Copy>
AccessResult GuestMemory::copy(uint64_t gpa, uint64_t length, bool isWrite, Copy copy) const {
  if (gpa > size) return {AccessError::kOutside, gpa};
  const uint64_t end = gpa + std::min(length, size - gpa);
  for (uint64_t at = gpa; at != end;) {
    const LimitsHold hold(limits);
    const uint64_t partEnd = std::min(end, at + kMostAtOnce);
    Use use = Use::kAll;
    const uint64_t allowedEnd = hold.firstRefused(at, partEnd, isWrite, use);
    uint64_t done = 0;
    const int signal = copy(at - gpa, base + at, allowedEnd - at, done);
    INVARIANT(signal == 0 ? done == allowedEnd - at : done < allowedEnd - at);
    if (signal != 0) return explain(signal, at + done, isWrite);
    if (allowedEnd != partEnd) return {errorOf(use), allowedEnd};
    at = partEnd;
  }
  return {end - gpa == length ? AccessError::kNone : AccessError::kOutside, end};
}

AccessResult GuestMemory::read(uint64_t gpa, uint8_t* into, size_t length) const {
  return copy(gpa, length, false, [=](uint64_t offset, uint64_t hva, uint64_t bytes, uint64_t& done) {
    return guardedRead(into + offset, hva, bytes, done);
  });
}

AccessResult GuestMemory::write(uint64_t gpa, const uint8_t* from, size_t length) const {
  return copy(gpa, length, true, [=](uint64_t offset, uint64_t hva, uint64_t bytes, uint64_t& done) {
    return pastHolds([&] {
      uint64_t more = 0;
      const int signal = guardedWrite(hva + done, from + offset + done, bytes - done, more);
      done += more;
      return signal;
    });
  });
}

AccessResult GuestMemory::load(uint64_t gpa, uint32_t bytes, uint64_t& value) const {
  const LimitsHold hold(limits);
  const AccessError refused = refuse(hold, gpa, bytes, false);
  if (refused != AccessError::kNone) return {refused, gpa};
  const int signal = guardedLoad(base + gpa, bytes, value);
  return signal == 0 ? AccessResult{AccessError::kNone, gpa + bytes} : explain(signal, gpa, false);
}

AccessResult GuestMemory::store(uint64_t gpa, uint32_t bytes, uint64_t value) const {
  const LimitsHold hold(limits);
  const AccessError refused = refuse(hold, gpa, bytes, true);
  if (refused != AccessError::kNone) return {refused, gpa};
  const int signal = pastHolds([&] { return guardedStore(base + gpa, bytes, value); });
  return signal == 0 ? AccessResult{AccessError::kNone, gpa + bytes} : explain(signal, gpa, true);
}

AccessResult GuestMemory::compareExchange(uint64_t gpa, uint32_t bytes, uint64_t& expected, uint64_t value) const {
  const LimitsHold hold(limits);
  const AccessError refused = refuse(hold, gpa, bytes, true);
  if (refused != AccessError::kNone) return {refused, gpa};
  if (gpa % bytes != 0) return {AccessError::kMisaligned, gpa};
  const int signal = pastHolds([&] { return guardedExchange(base + gpa, bytes, expected, value); });
  return signal == 0 ? AccessResult{AccessError::kNone, gpa + bytes} : explain(signal, gpa, true);
}

}  // namespace membacking
