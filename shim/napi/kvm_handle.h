// KVM as a whole in JavaScript.
#pragma once

#include <napi.h>

#include "kvm/system.h"
#include "napi/handle.h"

namespace membacking {

/// Return value of JavaScript's checkExtension(), of /dev/kvm or a virtual machine.
Napi::Value readExtension(const Napi::CallbackInfo& info, int fd);

/// Kvm in JavaScript.
class KvmHandle : public Handle<KvmHandle, Kvm> {
 public:
  static constexpr napi_type_tag kTag{0x6d656d6261636b69, 0x6b766d2073797374};
  static constexpr const char* kName = "Kvm";

  using Handle::Handle;
  static void define(Napi::Env env, Napi::Object exports);

 private:
  static Napi::Value open(const Napi::CallbackInfo& info);
  static Napi::Value adopt(const Napi::CallbackInfo& info);
  Napi::Value fd(const Napi::CallbackInfo& info);
  Napi::Value checkExtension(const Napi::CallbackInfo& info);
  Napi::Value readSupportedCpuid(const Napi::CallbackInfo& info);
  Napi::Value createVm(const Napi::CallbackInfo& info);
  Napi::Value adoptVm(const Napi::CallbackInfo& info);
  void close(const Napi::CallbackInfo& info);
};

}  // namespace membacking
