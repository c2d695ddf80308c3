// Exports of the addon: the boundary on one screen. ts/core/native.ts has the types.
//
// Several environments (the main thread and workers) may load it into one process: AddonData is there once for each of
// them; registries and signal handlers are there once for the process, and never destroyed.

#include <napi.h>
#include <unistd.h>

#include <string>

#include "abi.h"
#include "host/native_interface.h"
#include "host/page.h"
#include "napi/channel_handle.h"
#include "napi/event_fd_handle.h"
#include "napi/executor_handle.h"
#include "napi/follower_handle.h"
#include "napi/handle.h"
#include "napi/kvm_handle.h"
#include "napi/leavings_handle.h"
#include "napi/listener_handle.h"
#include "napi/machine_answers.h"
#include "napi/mapper_handle.h"
#include "napi/object_handle.h"
#include "napi/page_copies.h"
#include "napi/pager_handle.h"
#include "napi/reservation_handle.h"
#include "napi/uncounted_buffer.h"
#include "napi/vcpu_handle.h"
#include "napi/vm_handle.h"

namespace membacking {

/// Refuses a machine on which memory cannot be mapped page by page as the core counts pages: 64-bit ARM has such.
static void checkPageSize(Napi::Env env) {
  const auto size = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  if (size == kPageSize) return;
  throw Napi::Error::New(env, "the machine's pages have " + std::to_string(size) + " bytes, and only 4096 will do");
}

static Napi::Object init(Napi::Env env, Napi::Object exports) {
  checkPageSize(env);
  env.SetInstanceData(new AddonData);
  exports.Set("abiVersion", Napi::Number::New(env, abi::ABI_VERSION));
  const auto table = reinterpret_cast<uint64_t>(membacking_interface_1());
  exports.Set("nativeInterface", Napi::BigInt::New(env, table));
  exports.Set("exitLayout", exitLayout(env));
  exports.Set("countsViews", Napi::Boolean::New(env, !hasUncountedBuffers(env)));
  exports.Set("askMachine", Napi::Function::New(env, machineAnswers, "askMachine"));
  exports.Set("copyPages", Napi::Function::New(env, copyPages, "copyPages"));
  ReservationHandle::define(env, exports);
  ObjectHandle::define(env, exports);
  LeavingsHandle::define(env, exports);
  PagerHandle::define(env, exports);
  EventFdHandle::define(env, exports);
  ExecutorHandle::define(env, exports);
  ChannelHandle::define(env, exports);
  ListenerHandle::define(env, exports);
  MapperHandle::define(env, exports);
  FollowerHandle::define(env, exports);
  KvmHandle::define(env, exports);
  VmHandle::define(env, exports);
  VcpuHandle::define(env, exports);
  return exports;
}

NODE_API_MODULE(membacking, init)

}  // namespace membacking
