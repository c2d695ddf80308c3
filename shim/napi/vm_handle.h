// Virtual machines in JavaScript.
#pragma once

#include <napi.h>

#include "kvm/vm.h"
#include "napi/handle.h"

namespace membacking {

/// Vm in JavaScript.
class VmHandle : public Handle<VmHandle, Vm> {
 public:
  static constexpr napi_type_tag kTag{0x6d656d6261636b69, 0x766d206d61636869};
  static constexpr const char* kName = "Vm";

  explicit VmHandle(const Napi::CallbackInfo& info);
  static void define(Napi::Env env, Napi::Object exports);

 private:
  Napi::Value fd(const Napi::CallbackInfo& info);
  Napi::Value slotLimit(const Napi::CallbackInfo& info);
  Napi::Value checkExtension(const Napi::CallbackInfo& info);
  Napi::Value createVcpu(const Napi::CallbackInfo& info);
  void disableQuirks(const Napi::CallbackInfo& info);
  void setTssAddress(const Napi::CallbackInfo& info);
  void createIrqchip(const Napi::CallbackInfo& info);
  void createPit(const Napi::CallbackInfo& info);
  void irqLine(const Napi::CallbackInfo& info);
  template <bool isWrite>
  Napi::Value passState(const Napi::CallbackInfo& info);
  Napi::Value pause(const Napi::CallbackInfo& info);
  Napi::Value resume(const Napi::CallbackInfo& info);
  void close(const Napi::CallbackInfo& info);
};

}  // namespace membacking
