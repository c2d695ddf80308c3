// Leavings in JavaScript.
#pragma once

#include <napi.h>

#include "host/leavings.h"
#include "napi/handle.h"

namespace membacking {

/// Leavings in JavaScript.
class LeavingsHandle : public Handle<LeavingsHandle, Leavings> {
 public:
  static constexpr napi_type_tag kTag{0x6d656d6261636b69, 0x6c656176696e6773};
  static constexpr const char* kName = "Leavings";

  using Handle::Handle;
  static void define(Napi::Env env, Napi::Object exports);

 private:
  static Napi::Value create(const Napi::CallbackInfo& info);

  void keep(const Napi::CallbackInfo& info);
  Napi::Value free(const Napi::CallbackInfo& info);
  void close(const Napi::CallbackInfo& info);
};

}  // namespace membacking
