// Eventfds as JavaScript calls them.

#include "napi/event_fd_handle.h"

#include <utility>


namespace membacking {

void EventFdHandle::define(Napi::Env env, Napi::Object exports) {
  Handle::define(env, exports,
                 {
                     StaticMethod<&EventFdHandle::create>("create"),
                     StaticMethod<&EventFdHandle::adopt>("adopt"),
                     InstanceAccessor<&EventFdHandle::fd>("fd"),
                     InstanceMethod<&EventFdHandle::signal>("signal"),
                     InstanceMethod<&EventFdHandle::take>("take"),
                     InstanceMethod<&EventFdHandle::wait>("wait"),
                     InstanceMethod<&EventFdHandle::close>("close"),
                 });
}

Napi::Value EventFdHandle::create(const Napi::CallbackInfo& info) {
  std::shared_ptr<EventFd> made;
  check(info.Env(), EventFd::create(made));
  return wrap(info.Env(), std::move(made));
}

Napi::Value EventFdHandle::adopt(const Napi::CallbackInfo& info) {
  std::shared_ptr<EventFd> made;
  check(info.Env(), EventFd::adopt(toFd(info[0]), made));
  return wrap(info.Env(), std::move(made));
}

Napi::Value EventFdHandle::fd(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), core(info).fd());
}

void EventFdHandle::signal(const Napi::CallbackInfo& info) {
  check(info.Env(), core(info).signal(toU64(info[0], "count")));
}

Napi::Value EventFdHandle::take(const Napi::CallbackInfo& info) {
  uint64_t count = 0;
  check(info.Env(), core(info).take(count));
  return Napi::BigInt::New(info.Env(), count);
}

Napi::Value EventFdHandle::wait(const Napi::CallbackInfo& info) {
  const std::shared_ptr<EventFd>& eventFd = shared(info.Env());
  const auto take = [eventFd](Napi::Env env, Napi::Value& value) {
    uint64_t count = 0;
    const Failure failure = eventFd->take(count);
    if (count != 0) value = Napi::BigInt::New(env, count);
    return failure;
  };
  return wait_.begin(info.Env(), {eventFd->fd(), kName, true, take});
}

void EventFdHandle::close(const Napi::CallbackInfo& info) {
  wait_.end(info.Env());
  release();
}

}  // namespace membacking
