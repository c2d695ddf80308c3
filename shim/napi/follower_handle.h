// Followers in JavaScript: guest memory of another process.
#pragma once

#include <napi.h>

#include "mapper/follower.h"
#include "napi/handle.h"

namespace membacking {

/// Follower in JavaScript.
class FollowerHandle : public Handle<FollowerHandle, Follower> {
 public:
  static constexpr napi_type_tag kTag{0x6d656d6261636b69, 0x666f6c6c6f776572};
  static constexpr const char* kName = "Follower";

  using Handle::Handle;
  ~FollowerHandle() override { leave(); }
  static void define(Napi::Env env, Napi::Object exports);

 private:
  static Napi::Value open(const Napi::CallbackInfo& info);

  Napi::Value token(const Napi::CallbackInfo& info);
  Napi::Value hasEnded(const Napi::CallbackInfo& info);
  void close(const Napi::CallbackInfo&) { leave(); }
  void leave();
};

}  // namespace membacking
