// Eventfds in JavaScript.
#pragma once

#include <napi.h>

#include "host/event_fd.h"
#include "napi/event_waiter.h"
#include "napi/handle.h"

namespace membacking {

/// EventFd in JavaScript.
class EventFdHandle : public Handle<EventFdHandle, EventFd> {
 public:
  static constexpr napi_type_tag kTag{0x6d656d6261636b69, 0x6576656e74666473};
  static constexpr const char* kName = "EventFd";

  using Handle::Handle;
  static void define(Napi::Env env, Napi::Object exports);

 private:
  static Napi::Value create(const Napi::CallbackInfo& info);
  static Napi::Value adopt(const Napi::CallbackInfo& info);

  Napi::Value fd(const Napi::CallbackInfo& info);
  void signal(const Napi::CallbackInfo& info);
  Napi::Value take(const Napi::CallbackInfo& info);
  Napi::Value wait(const Napi::CallbackInfo& info);
  void close(const Napi::CallbackInfo& info);

  Wait wait_;
};

}  // namespace membacking
