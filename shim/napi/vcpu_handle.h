// VCPUs in JavaScript: one handle for each, in each thread.
#pragma once

#include <napi.h>

#include <memory>

#include "kvm/vcpu.h"
#include "napi/handle.h"

namespace membacking {

class AsyncRunner;

/// Vcpu in JavaScript.
class VcpuHandle : public Handle<VcpuHandle, Vcpu> {
 public:
  static constexpr napi_type_tag kTag{0x6d656d6261636b69, 0x7663707520637075};
  static constexpr const char* kName = "Vcpu";

  explicit VcpuHandle(const Napi::CallbackInfo& info);
  ~VcpuHandle() override;
  static void define(Napi::Env env, Napi::Object exports);

 private:
  class Claim;

  static Napi::Value fromToken(const Napi::CallbackInfo& info);

  Napi::Value token(const Napi::CallbackInfo& info);
  Napi::Value fd(const Napi::CallbackInfo& info);
  Napi::Value exchange(const Napi::CallbackInfo& info);
  Napi::Value run(const Napi::CallbackInfo& info);
  Napi::Value finish(const Napi::CallbackInfo& info);
  Napi::Value runAsync(const Napi::CallbackInfo& info);
  void kick(const Napi::CallbackInfo& info);
  Napi::Value takeWrites(const Napi::CallbackInfo& info);
  Napi::Value stateSize(const Napi::CallbackInfo& info);
  template <bool isWrite>
  Napi::Value passState(const Napi::CallbackInfo& info);
  Napi::Value readCpuid(const Napi::CallbackInfo& info);
  void writeCpuid(const Napi::CallbackInfo& info);
  void close(const Napi::CallbackInfo& info);

  Napi::Value enter(const Napi::CallbackInfo& info, Failure (Vcpu::*method)(const IsUnwanted&));

  std::shared_ptr<ExitFacts> facts_ = std::make_shared<ExitFacts>();
  Napi::Reference<Napi::ArrayBuffer> exchange_;
  std::unique_ptr<AsyncRunner> runner_;
};

/// Offsets of the facts in the exchange buffer, by name.
Napi::Object exitLayout(Napi::Env env);

}  // namespace membacking
