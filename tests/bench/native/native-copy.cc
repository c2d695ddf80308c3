// Copies of guest memory as a monitor's own addon makes them: with membacking.h and no more. Never shipped.

#include <napi.h>

#include <cstdint>

#include "host/membacking.h"

namespace {

uint64_t wide(const Napi::Value& value) {
  bool isExact = false;
  return value.As<Napi::BigInt>().Uint64Value(&isExact);
}

/// copy(address of the table, token, bytes, gpas, isWrite): one copy of all bytes for each GPA, out or in.
void copy(const Napi::CallbackInfo& info) {
  const auto* guest = reinterpret_cast<const membacking_interface*>(wide(info[0]));
  auto bytes = info[2].As<Napi::Uint8Array>();
  auto gpas = info[3].As<Napi::Float64Array>();
  const bool isWrite = info[4].As<Napi::Boolean>();
  membacking_memory* memory = guest->open(wide(info[1]));
  bool isDone = memory != nullptr;
  for (size_t i = 0; isDone && i < gpas.ElementLength(); i++) {
    const auto gpa = static_cast<uint64_t>(gpas[i]);
    const membacking_result result = isWrite ? guest->write(memory, gpa, bytes.Data(), bytes.ByteLength())
                                             : guest->read(memory, gpa, bytes.Data(), bytes.ByteLength());
    isDone = result.error == MEMBACKING_OK;
  }
  if (memory != nullptr) guest->close(memory);
  if (!isDone) throw Napi::Error::New(info.Env(), "guest memory cannot be copied");
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  exports.Set("copy", Napi::Function::New<copy>(env, "copy"));
  return exports;
}

NODE_API_MODULE(nativeCopy, init)

}  // namespace
