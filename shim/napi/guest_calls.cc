// Access functions as JavaScript calls them: check numbers, access guest memory, leave facts.

#include "napi/guest_calls.h"

#include <utility>

#include "host/guest_lock.h"
#include "host/reservation.h"
#include "napi/args.h"
#include "napi/exchange.h"
#include "napi/sys_error.h"

namespace membacking {
namespace {

// SAFETY: defineGuestCalls() gave each function this pointer, and a share of what is behind it.
GuestCalls& callsOf(const Napi::CallbackInfo& info) { return *static_cast<GuestCalls*>(info.Data()); }

GuestMemory memoryOf(const Napi::CallbackInfo& info) {
  const std::shared_ptr<Reservation>& reservation = callsOf(info).reservation;
  if (!reservation) throwCoded(info.Env(), "ERR_CLOSED", "This Reservation is closed");
  return {*reservation};
}

/// Leaves a number of 64 bits in the facts.
void tell(const Napi::CallbackInfo& info, uint64_t value) {
  callsOf(info).facts.low = static_cast<uint32_t>(value);
  callsOf(info).facts.high = static_cast<uint32_t>(value >> 32);
}

/// Number of a double, which is exact as far as any reservation reaches. One that is no address becomes an address
/// outside of every reservation.
uint64_t toExact(const Napi::Value& value, const char* name) {
  const double number = toDouble(value, name);
  constexpr double kTooLarge = 9007199254740992.0;
  if (!(number >= 0 && number < kTooLarge)) return UINT64_MAX;
  return static_cast<uint64_t>(number);
}

uint64_t toGpa(const Napi::Value& value) { return toExact(value, "gpa"); }

uint32_t toWidth(const Napi::Value& value) {
  const uint32_t bytes = toU32(value, "width");
  if (bytes != 1 && bytes != 2 && bytes != 4 && bytes != 8) throwRange(value.Env(), "width", "1, 2, 4 or 8");
  return bytes;
}

uint64_t toWide(const Napi::Value& low, const Napi::Value& high) {
  return toU32(low, "low") | static_cast<uint64_t>(toU32(high, "high")) << 32;
}

/// Result of a call: `value`, or the error, whose GPA is left in the facts.
Napi::Value report(const Napi::CallbackInfo& info, const AccessResult& result, double value) {
  if (result.error == AccessError::kNone) return Napi::Number::New(info.Env(), value);
  callsOf(info).facts.gpa = static_cast<double>(result.gpa);
  return Napi::Number::New(info.Env(), static_cast<int32_t>(result.error));
}

Napi::Value read(const Napi::CallbackInfo& info) {
  const uint64_t gpa = toGpa(info[0]);
  Napi::Uint8Array bytes = toBytes(info[1], "into");
  return report(info, memoryOf(info).read(gpa, bytes.Data(), bytes.ByteLength()), 0);
}

Napi::Value write(const Napi::CallbackInfo& info) {
  const uint64_t gpa = toGpa(info[0]);
  Napi::Uint8Array bytes = toBytes(info[1], "from");
  return report(info, memoryOf(info).write(gpa, bytes.Data(), bytes.ByteLength()), 0);
}

Napi::Value load(const Napi::CallbackInfo& info) {
  uint64_t value = 0;
  const AccessResult result = memoryOf(info).load(toGpa(info[0]), toWidth(info[1]), value);
  tell(info, value);
  return report(info, result, static_cast<uint32_t>(value));
}

Napi::Value store(const Napi::CallbackInfo& info) {
  const uint64_t value = toWide(info[2], info[3]);
  return report(info, memoryOf(info).store(toGpa(info[0]), toWidth(info[1]), value), 0);
}

Napi::Value compareExchange(const Napi::CallbackInfo& info) {
  const uint32_t bytes = toWidth(info[1]);
  const uint64_t mask = bytes == 8 ? UINT64_MAX : (uint64_t{1} << bytes * 8) - 1;
  const uint64_t expected = toWide(info[2], info[3]) & mask;
  uint64_t found = expected;
  const AccessResult result =
      memoryOf(info).compareExchange(toGpa(info[0]), bytes, found, toWide(info[4], info[5]));
  tell(info, found);
  return report(info, result, found == expected ? 1 : 0);
}

Napi::Value lock(const Napi::CallbackInfo& info) {
  Reservation& reservation = memoryOf(info).reservation;
  const uint64_t gpa = toGpa(info[0]);
  const uint64_t length = toExact(info[1], "length");
  GuestCalls& calls = callsOf(info);
  if (!info[3].IsUndefined()) calls.holder = toString(info[3], "holder");
  Locks::Lock wanted{{{gpa, gpa + length}}, toBool(info[2], "isWrite"), calls.holder, &calls};
  if (length == 0 || length > UINT64_MAX - gpa) return report(info, {AccessError::kOutside, gpa}, 0);
  reservation.locks().awaitOpenGate();
  TakenLock taken;
  const AccessResult result = lockMemory(reservation, std::move(wanted), taken);
  tell(info, taken.isPlain);
  return report(info, result, static_cast<double>(taken.id));
}

Napi::Value unlock(const Napi::CallbackInfo& info) {
  const std::shared_ptr<Reservation>& reservation = callsOf(info).reservation;
  if (reservation) reservation->locks().remove(toExact(info[0], "lock"));
  return info.Env().Undefined();
}

template <Napi::Value (*call)(const Napi::CallbackInfo&)>
void define(Napi::Object handle, const char* name, const std::shared_ptr<GuestCalls>& calls) {
  Napi::Function function = Napi::Function::New<call>(handle.Env(), name, calls.get());
  function.AddFinalizer([](Napi::BasicEnv, std::shared_ptr<GuestCalls>* share) { delete share; },
                        new std::shared_ptr<GuestCalls>(calls));
  handle.Set(name, function);
}

}  // namespace

void GuestCalls::end() {
  if (!reservation) return;
  reservation->locks().removeAllOf(this);
  reservation.reset();
}

void defineGuestCalls(Napi::Object handle, const std::shared_ptr<GuestCalls>& calls) {
  define<read>(handle, "read", calls);
  define<write>(handle, "write", calls);
  define<load>(handle, "load", calls);
  define<store>(handle, "store", calls);
  define<compareExchange>(handle, "compareExchange", calls);
  define<lock>(handle, "lock", calls);
  define<unlock>(handle, "unlock", calls);
  const std::shared_ptr<AccessFacts> facts(calls, &calls->facts);
  constexpr size_t kNumbers = sizeof(AccessFacts) / sizeof(double);
  handle.Set("facts", Napi::Float64Array::New(handle.Env(), kNumbers, exchangeBuffer(handle.Env(), facts), 0));
}

}  // namespace membacking
