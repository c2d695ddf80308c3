#include "host/guest_access.h"

#include <signal.h>

#include <algorithm>
#include <cstring>

#include "host/fault_guard.h"
#include "host/mapping.h"

namespace membacking {
namespace {

template <typename T>
uint64_t loadAs(uint64_t hva) {
  // SAFETY: the caller has clipped [hva, hva + sizeof(T)) to the reservation and runs guarded.
  if (hva % sizeof(T) == 0) return __atomic_load_n(reinterpret_cast<const T*>(hva), __ATOMIC_SEQ_CST);
  T value;
  std::memcpy(&value, reinterpret_cast<const void*>(hva), sizeof value);
  return value;
}

template <typename T>
void storeAs(uint64_t hva, uint64_t wide) {
  const T value = static_cast<T>(wide);
  // SAFETY: the caller has clipped [hva, hva + sizeof(T)) to the reservation and runs guarded.
  if (hva % sizeof(T) == 0) {
    __atomic_store_n(reinterpret_cast<T*>(hva), value, __ATOMIC_RELEASE);
  } else {
    std::memcpy(reinterpret_cast<void*>(hva), &value, sizeof value);
  }
}

template <typename T>
uint64_t exchangeAs(uint64_t hva, uint64_t expected, uint64_t value) {
  T found = static_cast<T>(expected);
  // SAFETY: aligned, clipped to the reservation and run guarded by the caller.
  __atomic_compare_exchange_n(reinterpret_cast<T*>(hva), &found, static_cast<T>(value), false, __ATOMIC_SEQ_CST,
                              __ATOMIC_SEQ_CST);
  return found;
}

/// What is wrong with a use of what may be used only so.
AccessError errorOf(Limits::Use use) {
  return use == Limits::Use::kRead ? AccessError::kReadOnly : AccessError::kHole;
}

}  // namespace

/// Whether the range leaves the window, overflow included, or may not be used so.
AccessError GuestWindow::refuse(uint64_t gpa, uint64_t length, bool isWrite) const {
  if (gpa > size || length > size - gpa) return AccessError::kOutside;
  Limits::Use use = Limits::Use::kAll;
  return limits.firstRefused(gpa, gpa + length, isWrite, use) == gpa + length ? AccessError::kNone : errorOf(use);
}

AccessResult GuestWindow::explain(int signal, uint64_t gpa, bool isWrite) const {
  if (signal == SIGBUS) return {AccessError::kGone, gpa};
  if (isWrite) {
    const uint64_t hva = base + gpa;
    volatile uint64_t ignored = 0;
    if (runGuarded(hva, hva + 1, [&] { ignored = loadAs<uint8_t>(hva); }) == 0) {
      return {AccessError::kReadOnly, gpa};
    }
  }
  return {AccessError::kHole, gpa};
}

template <typename Copy>
AccessResult GuestWindow::copy(uint64_t gpa, size_t length, bool isWrite, Copy copy) const {
  if (gpa > size) return {AccessError::kOutside, gpa};
  const uint64_t within = std::min<uint64_t>(length, size - gpa);
  Limits::Use use = Limits::Use::kAll;
  const uint64_t inside = limits.firstRefused(gpa, gpa + within, isWrite, use) - gpa;
  const uint64_t hva = base + gpa;
  if (inside != 0 && runGuarded(hva, hva + inside, [&] { copy(0, inside); }) != 0) {
    // memcpy goes in any order: do it again page by page, so that what is done ends exactly at the fault.
    for (uint64_t done = 0; done != inside;) {
      const uint64_t step = std::min(inside - done, kPageSize - (hva + done) % kPageSize);
      const int signal = runGuarded(hva + done, hva + done + step, [&] { copy(done, step); });
      if (signal != 0) return explain(signal, gpa + done, isWrite);
      done += step;
    }
  }
  if (inside != within) return {errorOf(use), gpa + inside};
  return {inside == length ? AccessError::kNone : AccessError::kOutside, gpa + inside};
}

AccessResult GuestWindow::read(uint64_t gpa, uint8_t* into, size_t length) const {
  return copy(gpa, length, false, [=, hva = base + gpa](uint64_t done, uint64_t step) {
    // SAFETY: copy() keeps [done, done + step) inside the reservation and inside `length`, and guards the access.
    std::memcpy(into + done, reinterpret_cast<const void*>(hva + done), step);
  });
}

AccessResult GuestWindow::write(uint64_t gpa, const uint8_t* from, size_t length) const {
  return copy(gpa, length, true, [=, hva = base + gpa](uint64_t done, uint64_t step) {
    // SAFETY: as in read().
    std::memcpy(reinterpret_cast<void*>(hva + done), from + done, step);
  });
}

AccessResult GuestWindow::load(uint64_t gpa, uint32_t bytes, uint64_t& value) const {
  const AccessError refused = refuse(gpa, bytes, false);
  if (refused != AccessError::kNone) return {refused, gpa};
  const uint64_t hva = base + gpa;
  const int signal = runGuarded(hva, hva + bytes, [&] {
    switch (bytes) {
      case 1: value = loadAs<uint8_t>(hva); break;
      case 2: value = loadAs<uint16_t>(hva); break;
      case 4: value = loadAs<uint32_t>(hva); break;
      default: value = loadAs<uint64_t>(hva);
    }
  });
  return signal == 0 ? AccessResult{AccessError::kNone, gpa + bytes} : explain(signal, gpa, false);
}

AccessResult GuestWindow::store(uint64_t gpa, uint32_t bytes, uint64_t value) const {
  const AccessError refused = refuse(gpa, bytes, true);
  if (refused != AccessError::kNone) return {refused, gpa};
  const uint64_t hva = base + gpa;
  const int signal = runGuarded(hva, hva + bytes, [&] {
    switch (bytes) {
      case 1: storeAs<uint8_t>(hva, value); break;
      case 2: storeAs<uint16_t>(hva, value); break;
      case 4: storeAs<uint32_t>(hva, value); break;
      default: storeAs<uint64_t>(hva, value);
    }
  });
  return signal == 0 ? AccessResult{AccessError::kNone, gpa + bytes} : explain(signal, gpa, true);
}

AccessResult GuestWindow::compareExchange(uint64_t gpa, uint32_t bytes, uint64_t& expected, uint64_t value) const {
  const AccessError refused = refuse(gpa, bytes, true);
  if (refused != AccessError::kNone) return {refused, gpa};
  if (gpa % bytes != 0) return {AccessError::kMisaligned, gpa};
  const uint64_t hva = base + gpa;
  const int signal = runGuarded(hva, hva + bytes, [&] {
    switch (bytes) {
      case 1: expected = exchangeAs<uint8_t>(hva, expected, value); break;
      case 2: expected = exchangeAs<uint16_t>(hva, expected, value); break;
      case 4: expected = exchangeAs<uint32_t>(hva, expected, value); break;
      default: expected = exchangeAs<uint64_t>(hva, expected, value);
    }
  });
  return signal == 0 ? AccessResult{AccessError::kNone, gpa + bytes} : explain(signal, gpa, true);
}

}  // namespace membacking
