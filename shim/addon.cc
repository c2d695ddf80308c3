// The boundary on one screen: what the addon gives to JavaScript. ts/native.ts has the types.
//
// c++ -std=c++17 -O2 -Wall -Wextra -Werror -fPIC -shared -fvisibility=hidden -DNAPI_VERSION=8
//   -DNODE_ADDON_API_DISABLE_DEPRECATED -I node_modules/node-api-headers/include -I node_modules/node-addon-api
//   -I build shim/*.cc -Wl,-z,nodelete -o build/membacking.node
//
// Several environments (the main thread and workers) may load it into one process: what is per environment is in
// AddonData, what is per process (registries, signal handlers) is made once and never destroyed.

#include <napi.h>

#include "abi.h"
#include "napi/executor_handle.h"
#include "napi/handle.h"
#include "napi/kvm_handle.h"
#include "napi/machine_answers.h"
#include "napi/object_handle.h"
#include "napi/reservation_handle.h"
#include "napi/vcpu_handle.h"
#include "napi/vm_handle.h"

namespace membacking {

static Napi::Object init(Napi::Env env, Napi::Object exports) {
  env.SetInstanceData(new AddonData);
  exports.Set("abiVersion", Napi::Number::New(env, abi::ABI_VERSION));
  exports.Set("exitLayout", exitLayout(env));
  exports.Set("askMachine", Napi::Function::New(env, machineAnswers, "askMachine"));
  ReservationHandle::define(env, exports);
  BackingHandle::define(env, exports);
  ExecutorHandle::define(env, exports);
  KvmHandle::define(env, exports);
  VmHandle::define(env, exports);
  VcpuHandle::define(env, exports);
  return exports;
}

NODE_API_MODULE(membacking, init)

}  // namespace membacking
