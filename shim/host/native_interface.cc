// Guest memory for native code: the functions of membacking.h.
#include "host/native_interface.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "host/guest_access.h"
#include "host/guest_lock.h"
#include "host/invariant.h"
#include "host/registry.h"
#include "host/reservation.h"

using membacking::AccessError;
using membacking::AccessResult;
using membacking::GuestMemory;
using membacking::Locks;
using membacking::Reservation;

struct membacking_memory {
  std::shared_ptr<Reservation> reservation;

  GuestMemory access() const { return {*reservation}; }
};

struct membacking_lock {
  std::shared_ptr<Reservation> reservation;
  std::vector<Locks::Range> ranges;
  uint64_t id;
};

namespace membacking {
namespace {

membacking_result resultOf(const AccessResult& result) {
  return {static_cast<membacking_error>(result.error), result.gpa};
}

bool isWidth(unsigned width) { return width == 1 || width == 2 || width == 4 || width == 8; }

membacking_memory* openMemory(uint64_t token) {
  std::shared_ptr<Reservation> reservation = Registry<Reservation>::instance().find(token);
  if (!reservation) return nullptr;
  reservation->locks().addUser();
  return new membacking_memory{std::move(reservation)};
}

void closeMemory(membacking_memory* memory) {
  memory->reservation->locks().removeUser();
  delete memory;
}

membacking_result readMemory(const membacking_memory* memory, uint64_t gpa, void* into, size_t length) {
  return resultOf(memory->access().read(gpa, static_cast<uint8_t*>(into), length));
}

membacking_result writeMemory(const membacking_memory* memory, uint64_t gpa, const void* from, size_t length) {
  return resultOf(memory->access().write(gpa, static_cast<const uint8_t*>(from), length));
}

membacking_result readRanges(const membacking_memory* memory, const membacking_range* ranges, size_t count,
                             void* into) {
  const GuestMemory access = memory->access();
  auto* next = static_cast<uint8_t*>(into);
  AccessResult result;
  for (size_t i = 0; i != count; next += ranges[i].length, i++) {
    result = access.read(ranges[i].gpa, next, ranges[i].length);
    if (result.error != AccessError::kNone) break;
  }
  return resultOf(result);
}

membacking_result writeRanges(const membacking_memory* memory, const membacking_range* ranges, size_t count,
                              const void* from) {
  const GuestMemory access = memory->access();
  const auto* next = static_cast<const uint8_t*>(from);
  AccessResult result;
  for (size_t i = 0; i != count; next += ranges[i].length, i++) {
    result = access.write(ranges[i].gpa, next, ranges[i].length);
    if (result.error != AccessError::kNone) break;
  }
  return resultOf(result);
}

membacking_result loadNumber(const membacking_memory* memory, uint64_t gpa, unsigned width, uint64_t* value) {
  if (!isWidth(width)) return {MEMBACKING_MISALIGNED, gpa};
  return resultOf(memory->access().load(gpa, width, *value));
}

membacking_result storeNumber(const membacking_memory* memory, uint64_t gpa, unsigned width, uint64_t value) {
  if (!isWidth(width)) return {MEMBACKING_MISALIGNED, gpa};
  return resultOf(memory->access().store(gpa, width, value));
}

membacking_result compareExchangeNumber(const membacking_memory* memory, uint64_t gpa, unsigned width,
                                        uint64_t* expected, uint64_t value) {
  if (!isWidth(width)) return {MEMBACKING_MISALIGNED, gpa};
  if (width != 8) *expected &= (uint64_t{1} << width * 8) - 1;
  return resultOf(memory->access().compareExchange(gpa, width, *expected, value));
}

membacking_result lockRanges(membacking_memory* memory, const membacking_range* ranges, size_t count, int isWrite,
                             const char* holder, membacking_lock** lock) {
  std::vector<Locks::Range> held;
  for (size_t i = 0; i != count; i++) held.push_back({ranges[i].gpa, ranges[i].gpa + ranges[i].length});
  TakenLock taken;
  const AccessResult result = lockMemory(*memory->reservation, {held, isWrite != 0, holder}, taken);
  if (result.error != AccessError::kNone) return resultOf(result);
  *lock = new membacking_lock{memory->reservation, std::move(held), taken.id};
  return {MEMBACKING_OK, 0};
}

void unlockRanges(membacking_lock* lock) {
  lock->reservation->locks().remove(lock->id);
  delete lock;
}

void* translateLocked(const membacking_lock* lock, uint64_t gpa, uint64_t length) {
  const bool isInside = std::any_of(lock->ranges.begin(), lock->ranges.end(), [&](const Locks::Range& range) {
    return gpa >= range.start && gpa < range.end && length <= range.end - gpa;
  });
  if (!isInside) return nullptr;
  const Reservation::Share stretch = lock->reservation->find(gpa);
  INVARIANT(stretch != nullptr);
  // SAFETY: the range is inside the stretch, of which the locked range stays mapped until the lock is released.
  return reinterpret_cast<void*>(stretch->addressOf(gpa));
}

constexpr membacking_interface kInterface = {
    MEMBACKING_VERSION, sizeof(membacking_interface),
    openMemory, closeMemory,
    readMemory, writeMemory, readRanges, writeRanges,
    loadNumber, storeNumber, compareExchangeNumber,
    lockRanges, unlockRanges, translateLocked,
};

}  // namespace
}  // namespace membacking

const membacking_interface* membacking_interface_1() { return &membacking::kInterface; }
