// Mappers as JavaScript calls them.

#include "napi/mapper_handle.h"

#include <limits>
#include <utility>

#include "napi/lock_calls.h"

namespace membacking {

MapperHandle::MapperHandle(const Napi::CallbackInfo& info) : Handle(info) {
  bind<&MapperHandle::shut>(info, "shut");
  bind<&MapperHandle::unshut>(info, "unshut");
}

void MapperHandle::define(Napi::Env env, Napi::Object exports) {
  Handle::define(env, exports,
                 {
                     StaticMethod<&MapperHandle::create>("create"),
                     InstanceAccessor<&MapperHandle::clientEnd>("clientEnd"),
                     InstanceAccessor<&MapperHandle::lockTable>("lockTable"),
                     InstanceMethod<&MapperHandle::begin>("begin"),
                     InstanceAccessor<&MapperHandle::end>("end"),
                     InstanceMethod<&MapperHandle::ended>("ended"),
                     InstanceMethod<&MapperHandle::cutOff>("cutOff"),
                     InstanceAccessor<&MapperHandle::isUsed>("isUsed"),
                     InstanceMethod<&MapperHandle::bar>("bar"),
                     InstanceMethod<&MapperHandle::unbar>("unbar"),
                     InstanceMethod<&MapperHandle::lockedIn>("lockedIn"),
                     InstanceMethod<&MapperHandle::isLocked>("isLocked"),
                     InstanceMethod<&MapperHandle::revoke>("revoke"),
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

Napi::Value MapperHandle::lockTable(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), core(info).lockTable());
}

void MapperHandle::begin(const Napi::CallbackInfo& info) {
  check(info.Env(), core(info).begin(static_cast<pid_t>(toU32(info[0], "pid", std::numeric_limits<pid_t>::max()))));
}

Napi::Value MapperHandle::end(const Napi::CallbackInfo& info) {
  const Mapper::End end = isOpen() ? core(info).end() : Mapper::End::kNone;
  return Napi::Number::New(info.Env(), static_cast<uint32_t>(end));
}

Napi::Value MapperHandle::ended(const Napi::CallbackInfo& info) {
  const std::shared_ptr<Mapper>& mapper = shared(info.Env());
  const auto take = [mapper](Napi::Env env, Napi::Value& value) {
    mapper->checkEnd();
    if (mapper->end() != Mapper::End::kNone) value = Napi::Number::New(env, static_cast<uint32_t>(mapper->end()));
    return kDone;
  };
  return wait_.begin(info.Env(), {mapper->endFd(), kName, false, take});
}

void MapperHandle::cutOff(const Napi::CallbackInfo& info) { core(info).cutOff(); }

// Whoever has ended holds nothing. Nobody asks of one that is closed but for bars and locks that were there before.

/// Whether a mapper's locks count.
static bool isHolding(Mapper& mapper) {
  mapper.checkEnd();
  return mapper.end() == Mapper::End::kNone;
}

Napi::Value MapperHandle::shut(const Napi::CallbackInfo& info) {
  Mapper& mapper = core(info);
  return Napi::Boolean::New(info.Env(), mapper.end() != Mapper::End::kNone || mapper.locks().shut());
}

Napi::Value MapperHandle::unshut(const Napi::CallbackInfo& info) {
  core(info).locks().open();
  return info.Env().Undefined();
}

Napi::Value MapperHandle::isUsed(const Napi::CallbackInfo& info) {
  Mapper& mapper = core(info);
  return Napi::Boolean::New(info.Env(), mapper.end() == Mapper::End::kNone && mapper.locks().isUsed());
}

Napi::Value MapperHandle::bar(const Napi::CallbackInfo& info) { return barRange(info, core(info).locks()); }

void MapperHandle::unbar(const Napi::CallbackInfo& info) {
  if (isOpen()) core(info).locks().unbar(toU64(info[0], "bar"));
}

Napi::Value MapperHandle::lockedIn(const Napi::CallbackInfo& info) {
  Mapper& mapper = core(info);
  if (!isHolding(mapper)) return Napi::Array::New(info.Env());
  return lockedInRange(info, mapper.locks(), " in " + mapper.name());
}

Napi::Value MapperHandle::isLocked(const Napi::CallbackInfo& info) {
  const bool isLocked =
      isOpen() && isHolding(core(info)) && core(info).locks().isHeld(toU64(info[0], "id"));
  return Napi::Boolean::New(info.Env(), isLocked);
}

void MapperHandle::revoke(const Napi::CallbackInfo& info) {
  if (isOpen()) core(info).revoke(toU64(info[0], "id"));
}

void MapperHandle::close(const Napi::CallbackInfo& info) {
  wait_.end(info.Env());
  release();
}

}  // namespace membacking
