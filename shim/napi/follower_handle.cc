// Followers as JavaScript calls them: memory is opened in the background.

#include "napi/follower_handle.h"

#include <limits>
#include <memory>
#include <utility>

#include "napi/pool_work.h"

namespace membacking {

namespace {

/// A follower that was opened for nobody yet.
struct Opened {
  std::shared_ptr<Follower> follower;
  ~Opened() {
    if (follower != nullptr) follower->leave();
  }
};

}  // namespace

void FollowerHandle::define(Napi::Env env, Napi::Object exports) {
  Handle::define(env, exports,
                 {
                     StaticMethod<&FollowerHandle::open>("open"),
                     InstanceAccessor<&FollowerHandle::token>("token"),
                     InstanceAccessor<&FollowerHandle::hasEnded>("hasEnded"),
                     InstanceMethod<&FollowerHandle::close>("close"),
                 });
}

Napi::Value FollowerHandle::open(const Napi::CallbackInfo& info) {
  constexpr uint32_t kLongest = std::numeric_limits<int>::max();
  const int fd = static_cast<int>(toU32(info[0], "fd", kLongest));
  const int timeout = static_cast<int>(toU32(info[1], "timeout", kLongest));
  const auto opened = std::make_shared<Opened>();
  return PoolWork::start(
      info.Env(), "membacking.open", [=] { return Follower::open(fd, timeout, opened->follower); },
      [opened](Napi::Env env) -> Napi::Value { return wrap(env, std::exchange(opened->follower, nullptr)); });
}

Napi::Value FollowerHandle::token(const Napi::CallbackInfo& info) {
  return Napi::BigInt::New(info.Env(), core(info).reservation()->token());
}

Napi::Value FollowerHandle::hasEnded(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), core(info).hasEnded());
}

void FollowerHandle::leave() {
  if (!isOpen()) return;
  shared(Env())->leave();
  release();
}

}  // namespace membacking
