// Leavings as JavaScript calls them: freed once, in the background.

#include "napi/leavings_handle.h"

#include <utility>

#include "napi/object_handle.h"
#include "napi/pool_work.h"

namespace membacking {

void LeavingsHandle::define(Napi::Env env, Napi::Object exports) {
  Handle::define(env, exports,
                 {
                     StaticMethod<&LeavingsHandle::create>("create"),
                     InstanceMethod<&LeavingsHandle::keep>("keep"),
                     InstanceMethod<&LeavingsHandle::free>("free"),
                     InstanceMethod<&LeavingsHandle::close>("close"),
                 });
}

Napi::Value LeavingsHandle::create(const Napi::CallbackInfo& info) {
  return wrap(info.Env(), std::make_shared<Leavings>());
}

void LeavingsHandle::keep(const Napi::CallbackInfo& info) {
  core(info).keep(ObjectHandle::from(info[0], "object"));
}

Napi::Value LeavingsHandle::free(const Napi::CallbackInfo& info) {
  const auto work = [leavings = shared(info.Env())] {
    leavings->free();
    return kDone;
  };
  release();
  return PoolWork::start(info.Env(), "membacking.free", work);
}

void LeavingsHandle::close(const Napi::CallbackInfo&) { release(); }

}  // namespace membacking
