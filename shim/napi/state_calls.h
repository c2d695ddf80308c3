// States of KVM in JavaScript: bytes of a size that is checked here.
#pragma once

#include <napi.h>

#include <string>

#include "kvm/state.h"
#include "napi/args.h"
#include "napi/sys_error.h"

namespace membacking {

/// Refuses a name that is no state's.
[[noreturn]] inline void throwNoState(Napi::Env env) { throwRange(env, "name", "the name of a state"); }

/// Bytes of a state that begin with an argument, whatever their number.
inline Napi::Uint8Array toState(const Napi::Value& value, const StateKind& kind) {
  Napi::Uint8Array bytes = toBytes(value, "bytes");
  if (!fits(kind, bytes.ByteLength())) {
    throwRange(value.Env(), "bytes", (std::string("of the size of ") + kind.name).c_str());
  }
  return bytes;
}

/// Return value of JavaScript's readState() or writeState(), for the state and its descriptor: what KVM returns.
template <bool isWrite>
Napi::Value passState(const Napi::CallbackInfo& info, const StateKind& kind, int fd) {
  Napi::Uint8Array bytes = toState(info[1], kind);
  int result = 0;
  check(info.Env(), isWrite ? writeState(fd, kind, bytes.Data(), bytes.ByteLength(), result)
                            : readState(fd, kind, bytes.Data(), bytes.ByteLength(), result));
  return Napi::Number::New(info.Env(), result);
}

}  // namespace membacking
