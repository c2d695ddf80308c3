// Listeners as JavaScript calls them.

#include "napi/listener_handle.h"

#include <memory>
#include <utility>

#include "napi/channel_handle.h"

namespace membacking {

void ListenerHandle::define(Napi::Env env, Napi::Object exports) {
  Handle::define(env, exports,
                 {
                     StaticMethod<&ListenerHandle::listen>("listen"),
                     InstanceMethod<&ListenerHandle::accept>("accept"),
                     InstanceMethod<&ListenerHandle::close>("close"),
                 });
}

Napi::Value ListenerHandle::listen(const Napi::CallbackInfo& info) {
  std::shared_ptr<Listener> listener;
  check(info.Env(), Listener::listen(toString(info[0], "path"), toBool(info[1], "isForAll"), listener));
  return wrap(info.Env(), std::move(listener));
}

/// The next one who comes in JavaScript; nothing yet where there is none.
static Failure toValue(Napi::Env env, const Listener& listener, Napi::Value& value) {
  const auto channel = std::make_shared<Channel>();
  if (const Failure failure = listener.accept(*channel)) return failure.error == EAGAIN ? kDone : failure;
  Credentials peer;
  if (const Failure failure = channel->readPeer(peer)) return failure;
  Napi::Object caller = Napi::Object::New(env);
  caller["channel"] = ChannelHandle::wrap(env, channel);
  caller["pid"] = Napi::Number::New(env, peer.pid);
  caller["uid"] = Napi::Number::New(env, peer.uid);
  value = caller;
  return kDone;
}

Napi::Value ListenerHandle::accept(const Napi::CallbackInfo& info) {
  const std::shared_ptr<Listener>& listener = shared(info.Env());
  const auto take = [listener](Napi::Env env, Napi::Value& value) { return toValue(env, *listener, value); };
  return wait_.begin(info.Env(), {listener->fd(), kName, false, take});
}

void ListenerHandle::close(const Napi::CallbackInfo& info) {
  wait_.end(info.Env());
  release();
}

}  // namespace membacking
