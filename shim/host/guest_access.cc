// Guest memory: each access is checked against the VA space and its limits, then made by a guarded instruction. Numbers
// lie in two stretches only where they are not aligned.
#include "host/guest_access.h"

#include <signal.h>

#include <algorithm>
#include <utility>

#include "host/fault_guard.h"
#include "host/invariant.h"
#include "host/pager.h"
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

/// Error of a guarded access that ended with `signal` at `gpa`, whose address is `hva`.
AccessResult explain(int signal, uint64_t hva, uint64_t gpa, bool isWrite) {
  if (signal == SIGBUS) return {AccessError::kGone, gpa};
  uint64_t ignored = 0;
  const bool isReadable = isWrite && guardedLoad(hva, 1, ignored) == 0;
  return {isReadable ? AccessError::kReadOnly : AccessError::kHole, gpa};
}

}  // namespace

/// Finds the host addresses of up to `length` bytes. Those of the first stretch, RAM's, without a look at others.
GuestMemory::HostBytes GuestMemory::at(uint64_t gpa, uint64_t length) const {
  const HostRange& first = reservation.first();
  if (gpa < first.size()) return {first.addressOf(gpa), std::min(length, first.bytesFrom(gpa)), nullptr};
  Reservation::Share stretch = reservation.find(gpa);
  if (stretch == nullptr) return {};
  const auto [hva, bytes] = std::pair(stretch->addressOf(gpa), std::min(length, stretch->bytesFrom(gpa)));
  return {hva, bytes, std::move(stretch)};
}

/// Error for a byte that no stretch has.
AccessError GuestMemory::errorBehind(uint64_t gpa) const {
  return gpa < reservation.reach() ? AccessError::kHole : AccessError::kOutside;
}

/// Error of a number of which `range` has not all: none where another stretch goes on with the rest.
AccessError GuestMemory::errorOfCut(uint64_t gpa, const HostBytes& range, uint32_t bytes) const {
  if (range.length == 0) return errorBehind(gpa);
  const uint64_t behind = gpa + range.length;
  return at(behind, bytes - range.length).length == 0 ? errorBehind(behind) : AccessError::kNone;
}

/// Refuses a range that may not be used so.
AccessError GuestMemory::refuse(const LimitsHold& hold, uint64_t gpa, uint64_t length, bool isWrite) const {
  Use use = Use::kAll;
  return hold.firstRefused(gpa, gpa + length, isWrite, use) == gpa + length ? AccessError::kNone : errorOf(use);
}

/// Copies as far as the VA space and its limits reach, a part at a time, so that nobody who changes limits waits long.
/// `copy(offset, hva, length, done)` gives 0 or a signal.
template <typename Copy>
AccessResult GuestMemory::copy(uint64_t gpa, uint64_t length, bool isWrite, Copy copy) const {
  for (uint64_t done = 0; done != length;) {
    const uint64_t at = gpa + done;
    const HostBytes range = at < gpa ? HostBytes{} : this->at(at, std::min(length - done, kMostAtOnce));
    if (range.length == 0) return {at < gpa ? AccessError::kOutside : errorBehind(at), at};
    const LimitsHold hold(reservation.limits());
    const uint64_t partEnd = at + range.length;
    Use use = Use::kAll;
    const uint64_t allowedEnd = hold.firstRefused(at, partEnd, isWrite, use);
    const uint64_t bytes = Pager::bytesWithoutWait(range.hva, allowedEnd - at);
    uint64_t copied = 0;
    const int signal = copy(done, range.hva, bytes, copied);
    INVARIANT(signal == 0 ? copied == bytes : copied < bytes);
    if (signal != 0) return explain(signal, range.hva + copied, at + copied, isWrite);
    if (at + bytes != allowedEnd) return {AccessError::kGone, at + bytes};
    if (allowedEnd != partEnd) return {errorOf(use), allowedEnd};
    done += range.length;
  }
  if (length == 0 && gpa > reservation.reach()) return {AccessError::kOutside, gpa};
  return {AccessError::kNone, gpa + length};
}

/// Makes an access, of all that is behind the first bytes that were done, and goes on with it where what was missing is
/// brought.
template <typename Access>
AccessResult GuestMemory::bringing(uint64_t gpa, uint64_t length, Access access) const {
  AccessResult result = access(0);
  while (result.error == AccessError::kHole && reservation.bring(result.gpa, gpa + length - result.gpa)) {
    result = access(result.gpa - gpa);
  }
  return result;
}

/// Makes an access to a number, again where what was missing of it is brought.
template <typename Access>
AccessResult GuestMemory::bringingNumber(uint64_t gpa, uint32_t bytes, Access access) const {
  AccessResult result = access();
  while (result.error == AccessError::kHole &&
         (reservation.bring(gpa, bytes) || reservation.bring(gpa + (bytes - 1), 1))) {
    result = access();
  }
  return result;
}

AccessResult GuestMemory::read(uint64_t gpa, uint8_t* into, size_t length) const {
  return bringing(gpa, length, [=](uint64_t before) {
    return copy(gpa + before, length - before, false, [=](uint64_t offset, uint64_t hva, uint64_t bytes, uint64_t& done) {
      return guardedRead(into + before + offset, hva, bytes, done);
    });
  });
}

AccessResult GuestMemory::write(uint64_t gpa, const uint8_t* from, size_t length) const {
  return bringing(gpa, length, [=](uint64_t before) {
    return copy(gpa + before, length - before, true, [=](uint64_t offset, uint64_t hva, uint64_t bytes, uint64_t& done) {
      return pastHolds([&] {
        uint64_t more = 0;
        const int signal = guardedWrite(hva + done, from + before + offset + done, bytes - done, more);
        done += more;
        return signal;
      });
    });
  });
}

/// Access to a number of which `range` has not all, by `copy()`, which cannot do it in one step.
template <typename Copy>
AccessResult GuestMemory::across(uint64_t gpa, const HostBytes& range, uint32_t bytes, Copy copy) const {
  const AccessError missing = errorOfCut(gpa, range, bytes);
  if (missing != AccessError::kNone) return {missing, gpa};
  const AccessResult result = copy();
  return result.error == AccessError::kNone ? result : AccessResult{result.error, gpa};
}

AccessResult GuestMemory::load(uint64_t gpa, uint32_t bytes, uint64_t& value) const {
  return bringingNumber(gpa, bytes, [&] { return loadNow(gpa, bytes, value); });
}

AccessResult GuestMemory::loadNow(uint64_t gpa, uint32_t bytes, uint64_t& value) const {
  const HostBytes range = at(gpa, bytes);
  if (range.length != bytes) {
    value = 0;
    // SAFETY: `bytes` are at most those of the number.
    return across(gpa, range, bytes, [&] { return read(gpa, reinterpret_cast<uint8_t*>(&value), bytes); });
  }
  const LimitsHold hold(reservation.limits());
  const AccessError refused = refuse(hold, gpa, bytes, false);
  if (refused != AccessError::kNone) return {refused, gpa};
  if (Pager::bytesWithoutWait(range.hva, bytes) != bytes) return {AccessError::kGone, gpa};
  const int signal = guardedLoad(range.hva, bytes, value);
  return signal == 0 ? AccessResult{AccessError::kNone, gpa + bytes} : explain(signal, range.hva, gpa, false);
}

AccessResult GuestMemory::store(uint64_t gpa, uint32_t bytes, uint64_t value) const {
  return bringingNumber(gpa, bytes, [&] { return storeNow(gpa, bytes, value); });
}

AccessResult GuestMemory::storeNow(uint64_t gpa, uint32_t bytes, uint64_t value) const {
  const HostBytes range = at(gpa, bytes);
  if (range.length != bytes) {
    // SAFETY: `bytes` are at most those of the number.
    return across(gpa, range, bytes, [&] { return write(gpa, reinterpret_cast<uint8_t*>(&value), bytes); });
  }
  const LimitsHold hold(reservation.limits());
  const AccessError refused = refuse(hold, gpa, bytes, true);
  if (refused != AccessError::kNone) return {refused, gpa};
  if (Pager::bytesWithoutWait(range.hva, bytes) != bytes) return {AccessError::kGone, gpa};
  const int signal = pastHolds([&] { return guardedStore(range.hva, bytes, value); });
  return signal == 0 ? AccessResult{AccessError::kNone, gpa + bytes} : explain(signal, range.hva, gpa, true);
}

AccessResult GuestMemory::compareExchange(uint64_t gpa, uint32_t bytes, uint64_t& expected, uint64_t value) const {
  return bringingNumber(gpa, bytes, [&] { return exchangeNow(gpa, bytes, expected, value); });
}

AccessResult GuestMemory::exchangeNow(uint64_t gpa, uint32_t bytes, uint64_t& expected, uint64_t value) const {
  const HostBytes range = at(gpa, bytes);
  if (range.length != bytes) {
    return across(gpa, range, bytes, [&] { return AccessResult{AccessError::kMisaligned, gpa}; });
  }
  const LimitsHold hold(reservation.limits());
  const AccessError refused = refuse(hold, gpa, bytes, true);
  if (refused != AccessError::kNone) return {refused, gpa};
  if (gpa % bytes != 0) return {AccessError::kMisaligned, gpa};
  if (Pager::bytesWithoutWait(range.hva, bytes) != bytes) return {AccessError::kGone, gpa};
  const int signal = pastHolds([&] { return guardedExchange(range.hva, bytes, expected, value); });
  return signal == 0 ? AccessResult{AccessError::kNone, gpa + bytes} : explain(signal, range.hva, gpa, true);
}

}  // namespace membacking
