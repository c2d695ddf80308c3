// Followers as JavaScript calls them: memory is opened in the background.

#include "napi/follower_handle.h"

#include <unistd.h>

#include <limits>
#include <memory>
#include <string>
#include <utility>

#include "napi/pool_work.h"

namespace membacking {

namespace {

/// A follower that is opened for nobody yet.
struct Opening {
  /// Path of a socket; empty where `fd` is a descriptor of one.
  std::string path;
  int fd = -1;
  int timeout;
  /// User that the manager at the path may run as, besides root and this process's own.
  uid_t uid;
  std::shared_ptr<Follower> follower;

  ~Opening() {
    if (follower != nullptr) follower->leave();
  }

  Failure open() {
    Channel channel;
    if (const Failure failure = path.empty() ? Channel::adopt(fd, channel) : connect(channel)) return failure;
    return Follower::open(std::move(channel), timeout, follower);
  }

 private:
  Failure connect(Channel& channel) const {
    if (const Failure failure = Channel::connect(path, timeout, channel)) return failure;
    Credentials manager;
    if (const Failure failure = channel.readPeer(manager)) return failure;
    if (manager.uid == 0 || manager.uid == ::geteuid() || manager.uid == uid) return kDone;
    return {EACCES, "getsockopt", "somebody else listens there"};
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
  const auto opening = std::make_shared<Opening>();
  if (info[0].IsString()) {
    opening->path = toString(info[0], "path");
  } else {
    opening->fd = static_cast<int>(toU32(info[0], "fd", kLongest));
  }
  opening->timeout = static_cast<int>(toU32(info[1], "timeout", kLongest));
  opening->uid = toU32(info[2], "uid");
  return PoolWork::start(
      info.Env(), "membacking.open", [opening] { return opening->open(); },
      [opening](Napi::Env env) -> Napi::Value { return wrap(env, std::exchange(opening->follower, nullptr)); });
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
