// Channels in JavaScript: the manager's side of its clients' requests.
#pragma once

#include <napi.h>

#include "host/channel.h"
#include "napi/event_waiter.h"
#include "napi/handle.h"

namespace membacking {

/// Channel in JavaScript.
class ChannelHandle : public Handle<ChannelHandle, Channel> {
 public:
  static constexpr napi_type_tag kTag{0x6d656d6261636b69, 0x6368616e6e656c73};
  static constexpr const char* kName = "Channel";

  using Handle::Handle;
  static void define(Napi::Env env, Napi::Object exports);

 private:
  static Napi::Value pair(const Napi::CallbackInfo& info);
  static Napi::Value adopt(const Napi::CallbackInfo& info);

  Napi::Value fd(const Napi::CallbackInfo& info);
  Napi::Value send(const Napi::CallbackInfo& info);
  Napi::Value receive(const Napi::CallbackInfo& info);
  void close(const Napi::CallbackInfo& info);

  Wait wait_;
};

}  // namespace membacking
