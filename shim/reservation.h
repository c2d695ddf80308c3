// A VA space: one linear reservation that mirrors an address space, HVA = base + GPA.
#pragma once

#include <napi.h>

#include <memory>

#include "exchange.h"
#include "guest_access.h"
#include "handle.h"
#include "mapping.h"
#include "registry.h"

namespace membacking {

class Reservation {
 public:
  static Failure create(uint64_t size, std::shared_ptr<Reservation>& result);
  ~Reservation();

  Mapping& mapping() { return mapping_; }
  uint32_t token() const { return token_; }

 private:
  Mapping mapping_;
  uint32_t token_ = 0;
};

/// Reservation in JavaScript.
class ReservationHandle : public Handle<ReservationHandle, Reservation> {
 public:
  static constexpr napi_type_tag kTag{0x6d656d6261636b69, 0x7265736572766174};
  static constexpr const char* kName = "Reservation";

  explicit ReservationHandle(const Napi::CallbackInfo& info);
  static void define(Napi::Env env, Napi::Object exports);

 private:
  static Napi::Value create(const Napi::CallbackInfo& info);
  static Napi::Value fromToken(const Napi::CallbackInfo& info);

  Napi::Value base(const Napi::CallbackInfo& info);
  Napi::Value size(const Napi::CallbackInfo& info);
  Napi::Value token(const Napi::CallbackInfo& info);
  Napi::Value facts(const Napi::CallbackInfo& info);
  void close(const Napi::CallbackInfo& info);

  Napi::Value read(const Napi::CallbackInfo& info);
  Napi::Value write(const Napi::CallbackInfo& info);
  Napi::Value load(const Napi::CallbackInfo& info);
  Napi::Value store(const Napi::CallbackInfo& info);
  Napi::Value compareExchange(const Napi::CallbackInfo& info);

  GuestWindow window(const Napi::CallbackInfo& info) const;
  Napi::Value report(const Napi::CallbackInfo& info, const AccessResult& result, double value);

  std::shared_ptr<AccessFacts> facts_ = std::make_shared<AccessFacts>();
  Napi::Reference<Napi::Float64Array> factsArray_;
};

}  // namespace membacking
