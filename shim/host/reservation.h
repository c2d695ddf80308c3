// A VA space: one linear reservation that mirrors an address space, HVA = base + GPA.
#pragma once

#include <napi.h>

#include <memory>

#include "guest_calls.h"
#include "handle.h"
#include "host/limits.h"
#include "host/mapping.h"
#include "registry.h"

namespace membacking {

class Reservation {
 public:
  static Failure create(uint64_t size, const std::string& name, std::shared_ptr<Reservation>& result);
  ~Reservation();

  Mapping& mapping() { return mapping_; }
  Limits& limits() { return limits_; }
  uint64_t token() const { return token_; }

 private:
  Mapping mapping_;
  Limits limits_;
  uint64_t token_ = 0;
};

/// Reservation in JavaScript.
class ReservationHandle : public Handle<ReservationHandle, Reservation> {
 public:
  static constexpr napi_type_tag kTag{0x6d656d6261636b69, 0x7265736572766174};
  static constexpr const char* kName = "Reservation";

  explicit ReservationHandle(const Napi::CallbackInfo& info);
  ~ReservationHandle() override;
  static void define(Napi::Env env, Napi::Object exports);

 private:
  static Napi::Value create(const Napi::CallbackInfo& info);
  static Napi::Value fromToken(const Napi::CallbackInfo& info);

  Napi::Value base(const Napi::CallbackInfo& info);
  Napi::Value size(const Napi::CallbackInfo& info);
  Napi::Value token(const Napi::CallbackInfo& info);
  Napi::Value fill(const Napi::CallbackInfo& info);
  Napi::Value discardPrivate(const Napi::CallbackInfo& info);
  Napi::Value view(const Napi::CallbackInfo& info);
  void detachView(const Napi::CallbackInfo& info);
  void close(const Napi::CallbackInfo& info);

  std::shared_ptr<GuestCalls> calls_ = std::make_shared<GuestCalls>();
};

}  // namespace membacking
