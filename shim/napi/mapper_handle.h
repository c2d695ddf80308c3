// Mappers in JavaScript: the manager's side of its clients' mapper threads.
#pragma once

#include <napi.h>

#include "napi/event_waiter.h"
#include "napi/handle.h"
#include "sinks/mapper.h"

namespace membacking {

/// Mapper in JavaScript.
class MapperHandle : public Handle<MapperHandle, Mapper> {
 public:
  static constexpr napi_type_tag kTag{0x6d656d6261636b69, 0x6d61707065727321};
  static constexpr const char* kName = "Mapper";

  explicit MapperHandle(const Napi::CallbackInfo& info);
  static void define(Napi::Env env, Napi::Object exports);

 private:
  static Napi::Value create(const Napi::CallbackInfo& info);

  Napi::Value clientEnd(const Napi::CallbackInfo& info);
  Napi::Value lockTable(const Napi::CallbackInfo& info);
  void begin(const Napi::CallbackInfo& info);
  Napi::Value end(const Napi::CallbackInfo& info);
  Napi::Value ended(const Napi::CallbackInfo& info);
  void cutOff(const Napi::CallbackInfo& info);
  Napi::Value shut(const Napi::CallbackInfo& info);
  Napi::Value unshut(const Napi::CallbackInfo& info);
  Napi::Value isUsed(const Napi::CallbackInfo& info);
  Napi::Value bar(const Napi::CallbackInfo& info);
  void unbar(const Napi::CallbackInfo& info);
  Napi::Value lockedIn(const Napi::CallbackInfo& info);
  Napi::Value isLocked(const Napi::CallbackInfo& info);
  void revoke(const Napi::CallbackInfo& info);
  void close(const Napi::CallbackInfo& info);

  Wait wait_;
};

}  // namespace membacking
