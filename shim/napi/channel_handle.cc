// Channels as JavaScript calls them.

#include "napi/channel_handle.h"

#include <utility>
#include <vector>

#include "napi/exchange.h"

namespace membacking {

void ChannelHandle::define(Napi::Env env, Napi::Object exports) {
  Handle::define(env, exports,
                 {
                     StaticMethod<&ChannelHandle::pair>("pair"),
                     StaticMethod<&ChannelHandle::adopt>("adopt"),
                     InstanceAccessor<&ChannelHandle::fd>("fd"),
                     InstanceMethod<&ChannelHandle::send>("send"),
                     InstanceMethod<&ChannelHandle::receive>("receive"),
                     InstanceMethod<&ChannelHandle::close>("close"),
                 });
}

Napi::Value ChannelHandle::pair(const Napi::CallbackInfo& info) {
  auto one = std::make_shared<Channel>();
  auto other = std::make_shared<Channel>();
  check(info.Env(), Channel::create(*one, *other));
  check(info.Env(), one->wantCredentials());
  Napi::Array ends = Napi::Array::New(info.Env(), 2);
  ends[0u] = wrap(info.Env(), std::move(one));
  ends[1u] = wrap(info.Env(), std::move(other));
  return ends;
}

Napi::Value ChannelHandle::adopt(const Napi::CallbackInfo& info) {
  auto made = std::make_shared<Channel>();
  check(info.Env(), Channel::adopt(toFd(info[0]), *made));
  return wrap(info.Env(), std::move(made));
}

Napi::Value ChannelHandle::fd(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), core(info).fd());
}

Napi::Value ChannelHandle::send(const Napi::CallbackInfo& info) {
  const Napi::Uint8Array bytes = toBytes(info[0], "bytes");
  const size_t length = bytes.ByteLength();
  if (length == 0 || length > kMostMessageBytes) throwRange(info.Env(), "bytes", "a message: neither empty nor too long");
  std::vector<int> descriptors;
  for (const size_t i : {1, 2}) {
    if (!info[i].IsUndefined()) descriptors.push_back(toFd(info[i]));
  }
  const Failure failure = core(info).send(bytes.Data(), length, descriptors);
  if (failure && failure.error != EAGAIN && failure.error != EPIPE && failure.error != ECONNRESET) {
    check(info.Env(), failure);
  }
  return Napi::Boolean::New(info.Env(), !failure);
}

/// The next message in JavaScript: null where the peer has closed the channel; nothing yet where there is none.
static Failure toValue(Napi::Env env, const Channel& channel, Napi::Value& value) {
  Received received;
  const Failure failure = channel.receive(received);
  if (failure.error == EAGAIN) return kDone;
  if (failure.error == ECONNRESET || (!failure && received.bytes.empty())) {
    value = env.Null();
    return kDone;
  }
  if (failure && failure.error != EMSGSIZE) return failure;
  Napi::Object message = Napi::Object::New(env);
  // One that is too long is none that anybody expects. Descriptors that came along are closed here.
  if (failure) received.bytes.clear();
  message["bytes"] = copied(env, received.bytes);
  message["pid"] = Napi::Number::New(env, received.sender.pid);
  value = message;
  return kDone;
}

Napi::Value ChannelHandle::receive(const Napi::CallbackInfo& info) {
  const std::shared_ptr<Channel>& channel = shared(info.Env());
  const auto take = [channel](Napi::Env env, Napi::Value& value) { return toValue(env, *channel, value); };
  return wait_.begin(info.Env(), {channel->fd(), kName, false, take});
}

void ChannelHandle::close(const Napi::CallbackInfo& info) {
  wait_.end(info.Env());
  release();
}

}  // namespace membacking
