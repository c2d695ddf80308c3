// Bytes for JavaScript: memory that both sides read and write, without an object per call, and copies.
#pragma once

#include <napi.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

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

/// A Uint8Array with a copy of `bytes`.
inline Napi::Uint8Array copied(Napi::Env env, const std::vector<uint8_t>& bytes) {
  Napi::Uint8Array array = Napi::Uint8Array::New(env, bytes.size());
  std::copy(bytes.begin(), bytes.end(), array.Data());
  return array;
}

}  // namespace membacking
