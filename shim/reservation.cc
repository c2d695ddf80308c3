#include "reservation.h"

#include "fault_guard.h"

namespace membacking {

Failure Reservation::create(uint64_t size, std::shared_ptr<Reservation>& result) {
  auto reservation = std::make_shared<Reservation>();
  if (const Failure failure = Mapping::reserve(size, reservation->mapping_)) return failure;
  reservation->token_ = Registry<Reservation>::instance().add(reservation);
  result = std::move(reservation);
  return kDone;
}

Reservation::~Reservation() { Registry<Reservation>::instance().remove(token_); }

ReservationHandle::ReservationHandle(const Napi::CallbackInfo& info)
    : Handle(info) {
  Napi::ArrayBuffer buffer = exchangeBuffer(info.Env(), facts_);
  factsArray_ = Napi::Persistent(Napi::Float64Array::New(info.Env(), sizeof(AccessFacts) / sizeof(double), buffer, 0));
}

void ReservationHandle::define(Napi::Env env, Napi::Object exports) {
  Handle::define(env, exports,
                 {
                     StaticMethod<&ReservationHandle::create>("create"),
                     StaticMethod<&ReservationHandle::fromToken>("fromToken"),
                     InstanceAccessor<&ReservationHandle::base>("base"),
                     InstanceAccessor<&ReservationHandle::size>("size"),
                     InstanceAccessor<&ReservationHandle::token>("token"),
                     InstanceAccessor<&ReservationHandle::facts>("facts"),
                     InstanceMethod<&ReservationHandle::close>("close"),
                     InstanceMethod<&ReservationHandle::read>("read"),
                     InstanceMethod<&ReservationHandle::write>("write"),
                     InstanceMethod<&ReservationHandle::load>("load"),
                     InstanceMethod<&ReservationHandle::store>("store"),
                     InstanceMethod<&ReservationHandle::compareExchange>("compareExchange"),
                 });
}

Napi::Value ReservationHandle::create(const Napi::CallbackInfo& info) {
  const uint64_t size = toU64(info[0], "size");
  if (size == 0 || size % kPageSize != 0) throwRange(info.Env(), "size", "whole pages, at least one");
  installFaultGuard();
  std::shared_ptr<Reservation> reservation;
  check(info.Env(), Reservation::create(size, reservation));
  return wrap(info.Env(), std::move(reservation));
}

Napi::Value ReservationHandle::fromToken(const Napi::CallbackInfo& info) {
  auto reservation = Registry<Reservation>::instance().find(toU32(info[0], "token"));
  if (!reservation) throwCoded(info.Env(), "ERR_CLOSED", "The Reservation of this token is closed");
  return wrap(info.Env(), std::move(reservation));
}

Napi::Value ReservationHandle::base(const Napi::CallbackInfo& info) {
  return Napi::BigInt::New(info.Env(), core(info).mapping().base());
}

Napi::Value ReservationHandle::size(const Napi::CallbackInfo& info) {
  return Napi::BigInt::New(info.Env(), core(info).mapping().size());
}

Napi::Value ReservationHandle::token(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), core(info).token());
}

Napi::Value ReservationHandle::facts(const Napi::CallbackInfo&) { return factsArray_.Value(); }

void ReservationHandle::close(const Napi::CallbackInfo&) { release(); }

GuestWindow ReservationHandle::window(const Napi::CallbackInfo& info) const {
  const Mapping& mapping = core(info).mapping();
  return {mapping.base(), mapping.size()};
}

/// A GPA as a double, which is exact as far as any reservation reaches. What is no address lies outside of every
/// window.
static uint64_t toGpa(const Napi::Value& value) {
  if (!value.IsNumber()) throwType(value.Env(), "gpa", "a number");
  const double gpa = value.As<Napi::Number>().DoubleValue();
  constexpr double kTooLarge = 9007199254740992.0;
  if (!(gpa >= 0 && gpa < kTooLarge)) return UINT64_MAX;
  return static_cast<uint64_t>(gpa);
}

static uint32_t toWidth(const Napi::Value& value) {
  const uint32_t bytes = toU32(value, "size");
  if (bytes != 1 && bytes != 2 && bytes != 4 && bytes != 8) throwRange(value.Env(), "size", "1, 2, 4 or 8");
  return bytes;
}

static uint64_t toWide(const Napi::Value& low, const Napi::Value& high) {
  return toU32(low, "low") | static_cast<uint64_t>(toU32(high, "high")) << 32;
}

Napi::Value ReservationHandle::report(const Napi::CallbackInfo& info, const AccessResult& result, double value) {
  if (result.error == AccessError::kNone) return Napi::Number::New(info.Env(), value);
  facts_->gpa = static_cast<double>(result.gpa);
  return Napi::Number::New(info.Env(), static_cast<int32_t>(result.error));
}

Napi::Value ReservationHandle::read(const Napi::CallbackInfo& info) {
  const uint64_t gpa = toGpa(info[0]);
  Napi::Uint8Array bytes = toBytes(info[1], "into");
  return report(info, window(info).read(gpa, bytes.Data(), bytes.ByteLength()), 0);
}

Napi::Value ReservationHandle::write(const Napi::CallbackInfo& info) {
  const uint64_t gpa = toGpa(info[0]);
  Napi::Uint8Array bytes = toBytes(info[1], "from");
  return report(info, window(info).write(gpa, bytes.Data(), bytes.ByteLength()), 0);
}

Napi::Value ReservationHandle::load(const Napi::CallbackInfo& info) {
  uint64_t value = 0;
  const AccessResult result = window(info).load(toGpa(info[0]), toWidth(info[1]), value);
  facts_->low = static_cast<uint32_t>(value);
  facts_->high = static_cast<uint32_t>(value >> 32);
  return report(info, result, facts_->low);
}

Napi::Value ReservationHandle::store(const Napi::CallbackInfo& info) {
  const uint64_t value = toWide(info[2], info[3]);
  return report(info, window(info).store(toGpa(info[0]), toWidth(info[1]), value), 0);
}

Napi::Value ReservationHandle::compareExchange(const Napi::CallbackInfo& info) {
  const uint32_t bytes = toWidth(info[1]);
  const uint64_t mask = bytes == 8 ? UINT64_MAX : (uint64_t{1} << bytes * 8) - 1;
  const uint64_t expected = toWide(info[2], info[3]) & mask;
  uint64_t found = expected;
  const AccessResult result =
      window(info).compareExchange(toGpa(info[0]), bytes, found, toWide(info[4], info[5]));
  facts_->low = static_cast<uint32_t>(found);
  facts_->high = static_cast<uint32_t>(found >> 32);
  return report(info, result, found == expected ? 1 : 0);
}

}  // namespace membacking
