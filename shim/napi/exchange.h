// Memory that both sides read and write: facts too many for one return value, without an object per call.
#pragma once

#include <napi.h>

#include <memory>

namespace membacking {

/// An ArrayBuffer over `facts`. Whatever JavaScript does with it (even transferring it away), the memory stays
/// until both the buffer and the native owner have let go.
template <typename Facts>
Napi::ArrayBuffer exchangeBuffer(Napi::Env env, const std::shared_ptr<Facts>& facts) {
  return Napi::ArrayBuffer::New(
      env, facts.get(), sizeof(Facts),
      [](Napi::BasicEnv, void*, std::shared_ptr<Facts>* owner) { delete owner; },
      new std::shared_ptr<Facts>(facts));
}

}  // namespace membacking
