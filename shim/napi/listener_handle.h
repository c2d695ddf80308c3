// Listeners in JavaScript: sockets at paths, to which clients come.
#pragma once

#include <napi.h>

#include "host/channel.h"
#include "napi/event_waiter.h"
#include "napi/handle.h"

namespace membacking {

/// Listener in JavaScript.
class ListenerHandle : public Handle<ListenerHandle, Listener> {
 public:
  static constexpr napi_type_tag kTag{0x6d656d6261636b69, 0x6c697374656e6572};
  static constexpr const char* kName = "Listener";

  using Handle::Handle;
  static void define(Napi::Env env, Napi::Object exports);

 private:
  static Napi::Value listen(const Napi::CallbackInfo& info);

  Napi::Value accept(const Napi::CallbackInfo& info);
  void close(const Napi::CallbackInfo& info);

  Wait wait_;
};

}  // namespace membacking
