// Mappers as JavaScript calls them.

#include "napi/mapper_handle.h"

#include <limits>
#include <utility>

#include "napi/event_waiter.h"

namespace membacking {

void MapperHandle::define(Napi::Env env, Napi::Object exports) {
  Handle::define(env, exports,
                 {
                     StaticMethod<&MapperHandle::create>("create"),
                     InstanceAccessor<&MapperHandle::clientEnd>("clientEnd"),
                     InstanceMethod<&MapperHandle::begin>("begin"),
                     InstanceMethod<&MapperHandle::ended>("ended"),
                     InstanceMethod<&MapperHandle::cutOff>("cutOff"),
                     InstanceMethod<&MapperHandle::close>("close"),
                 });
}

Napi::Value MapperHandle::create(const Napi::CallbackInfo& info) {
  constexpr uint32_t kLongest = std::numeric_limits<int>::max();
  Mapper::Options options{toString(info[0], "name"), toBool(info[1], "isReadOnly"),
                          static_cast<int>(toU32(info[2], "deadline", kLongest)), toBool(info[3], "isCutOff")};
  std::shared_ptr<Mapper> mapper;
  check(info.Env(), Mapper::create(std::move(options), mapper));
  return wrap(info.Env(), std::move(mapper));
}

Napi::Value MapperHandle::clientEnd(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), core(info).clientEnd());
}

void MapperHandle::begin(const Napi::CallbackInfo& info) {
  check(info.Env(), core(info).begin(static_cast<pid_t>(toU32(info[0], "pid", std::numeric_limits<pid_t>::max()))));
}

Napi::Value MapperHandle::ended(const Napi::CallbackInfo& info) {
  EventWaiter& waiter = EventWaiter::of(info.Env());
  if (waiter.isWaiting(wait_)) throwCoded(info.Env(), "ERR_WAITING", "Somebody waits for this Mapper already");
  const std::shared_ptr<Mapper>& mapper = shared(info.Env());
  const auto take = [mapper](Napi::Env env, Napi::Value& value) {
    mapper->checkEnd();
    if (mapper->end() != Mapper::End::kNone) value = Napi::Number::New(env, static_cast<uint32_t>(mapper->end()));
    return kDone;
  };
  return waiter.wait(info.Env(), {mapper->endFd(), kName, false, take}, wait_);
}

void MapperHandle::cutOff(const Napi::CallbackInfo& info) { core(info).cutOff(); }

void MapperHandle::close(const Napi::CallbackInfo& info) {
  if (wait_ != 0) EventWaiter::of(info.Env()).cancel(info.Env(), wait_);
  release();
}

}  // namespace membacking
