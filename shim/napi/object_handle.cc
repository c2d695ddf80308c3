// Memory objects as JavaScript calls them: checks sizes and descriptors, and starts what takes long in the background.

#include "napi/object_handle.h"

#include <limits>
#include <memory>
#include <string>
#include <utility>

#include "napi/pool_work.h"

namespace membacking {

void BackingHandle::define(Napi::Env env, Napi::Object exports) {
  Handle::define(env, exports,
                 {
                     StaticMethod<&BackingHandle::memfd>("memfd"),
                     StaticMethod<&BackingHandle::fromFd>("fromFd"),
                     StaticMethod<&BackingHandle::checkAccess>("checkAccess"),
                     StaticMethod<&BackingHandle::privateMemory>("privateMemory"),
                     StaticMethod<&BackingHandle::privateFile>("privateFile"),
                     InstanceAccessor<&BackingHandle::kind>("kind"),
                     InstanceAccessor<&BackingHandle::size>("size"),
                     InstanceAccessor<&BackingHandle::writable>("writable"),
                     InstanceAccessor<&BackingHandle::granularity>("granularity"),
                     InstanceAccessor<&BackingHandle::fd>("fd"),
                     InstanceAccessor<&BackingHandle::allocatedBytes>("allocatedBytes"),
                     InstanceAccessor<&BackingHandle::isShrinkable>("isShrinkable"),
                     InstanceMethod<&BackingHandle::discard>("discard"),
                     InstanceMethod<&BackingHandle::populate>("populate"),
                     InstanceMethod<&BackingHandle::whyMissing>("whyMissing"),
                     InstanceMethod<&BackingHandle::setNumaNode>("setNumaNode"),
                     InstanceMethod<&BackingHandle::adviseHugePages>("adviseHugePages"),
                     InstanceMethod<&BackingHandle::pin>("pin"),
                     InstanceMethod<&BackingHandle::close>("close"),
                 });
}

/// Whole pages of `granularity`, at least one, at most what a file can have.
static uint64_t toSize(const Napi::Value& value, uint64_t granularity = kPageSize) {
  const uint64_t size = toU64(value, "size");
  if (size == 0 || size % granularity != 0 || size > std::numeric_limits<int64_t>::max()) {
    throwRange(value.Env(), "size", "whole pages, at least one, below 2^63");
  }
  return size;
}

/// The descriptor of something that can be mapped. Asked first: what cannot has no size that would do.
static int toMappable(const Napi::Value& value) {
  const int fd = static_cast<int>(toU32(value, "fd", std::numeric_limits<int>::max()));
  check(value.Env(), Backing::checkMappable(fd));
  return fd;
}

Napi::Value BackingHandle::memfd(const Napi::CallbackInfo& info) {
  const std::string name = toString(info[0], "name");
  const uint64_t hugePageSize = toU64(info[2], "hugePageSize");
  if (hugePageSize != 0 && (hugePageSize < kPageSize || (hugePageSize & (hugePageSize - 1)) != 0)) {
    throwRange(info.Env(), "hugePageSize", "0 or a power of two that is a page size");
  }
  const uint64_t size = toSize(info[1], hugePageSize != 0 ? hugePageSize : kPageSize);
  std::shared_ptr<Backing> backing;
  const bool isReserved = info[3].IsUndefined() || toBool(info[3], "isReserved");
  check(info.Env(), Backing::memfd(name, size, hugePageSize, isReserved, backing));
  return wrap(info.Env(), std::move(backing));
}

Napi::Value BackingHandle::fromFd(const Napi::CallbackInfo& info) {
  const int fd = toMappable(info[0]);
  std::shared_ptr<Backing> backing;
  const bool mayGrow = !info[3].IsUndefined() && toBool(info[3], "mayGrow");
  const bool isReserved = info[4].IsUndefined() || toBool(info[4], "isReserved");
  const bool isWritable = toBool(info[2], "writable");
  check(info.Env(), Backing::fromFd(fd, toSize(info[1]), isWritable, mayGrow, isReserved, backing));
  return wrap(info.Env(), std::move(backing));
}

void BackingHandle::checkAccess(const Napi::CallbackInfo& info) {
  check(info.Env(), Backing::checkAccess(toMappable(info[0]), toBool(info[1], "writable")));
}

Napi::Value BackingHandle::privateMemory(const Napi::CallbackInfo& info) {
  std::shared_ptr<Backing> backing;
  check(info.Env(), Backing::privateMemory(toSize(info[0]), toFullName("membacking:ram", info[1]), backing));
  return wrap(info.Env(), std::move(backing));
}

Napi::Value BackingHandle::privateFile(const Napi::CallbackInfo& info) {
  const int fd = toMappable(info[0]);
  std::shared_ptr<Backing> backing;
  check(info.Env(), Backing::privateFile(fd, toSize(info[1]), backing));
  return wrap(info.Env(), std::move(backing));
}

Napi::Value BackingHandle::kind(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), core(info).isShared ? "shared" : "private");
}

Napi::Value BackingHandle::size(const Napi::CallbackInfo& info) {
  return Napi::BigInt::New(info.Env(), core(info).size);
}

Napi::Value BackingHandle::writable(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), core(info).isWritable);
}

Napi::Value BackingHandle::granularity(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(core(info).granularity));
}

Napi::Value BackingHandle::fd(const Napi::CallbackInfo& info) {
  const Backing& backing = core(info);
  if (!backing.isShared) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), backing.fd.get());
}

Napi::Value BackingHandle::allocatedBytes(const Napi::CallbackInfo& info) {
  const Backing& backing = core(info);
  if (!backing.isShared) return info.Env().Undefined();
  uint64_t bytes = 0;
  check(info.Env(), backing.readAllocated(bytes));
  return Napi::BigInt::New(info.Env(), bytes);
}

Napi::Value BackingHandle::isShrinkable(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), core(info).isShrinkable());
}

Napi::Value BackingHandle::discard(const Napi::CallbackInfo& info) {
  uint64_t freed = 0;
  check(info.Env(), core(info).discard(toU64(info[0], "offset"), toU64(info[1], "length"), freed));
  return Napi::BigInt::New(info.Env(), freed);
}

Napi::Value BackingHandle::populate(const Napi::CallbackInfo& info) {
  const uint64_t offset = toU64(info[0], "offset");
  const uint64_t length = toU64(info[1], "length");
  return PoolWork::start(info.Env(), "membacking.populate", [backing = shared(info.Env()), offset, length] {
    return backing->populate(offset, length);
  });
}

Napi::Value BackingHandle::whyMissing(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), core(info).whyMissing(toU64(info[0], "offset")).reason);
}

void BackingHandle::setNumaNode(const Napi::CallbackInfo& info) {
  check(info.Env(), core(info).setNode(toU32(info[0], "node")));
}

Napi::Value BackingHandle::adviseHugePages(const Napi::CallbackInfo& info) {
  bool atTouch = false;
  check(info.Env(), core(info).adviseHugePages(atTouch));
  return Napi::Boolean::New(info.Env(), atTouch);
}

void BackingHandle::pin(const Napi::CallbackInfo& info) { check(info.Env(), core(info).pin()); }

void BackingHandle::close(const Napi::CallbackInfo&) { release(); }

}  // namespace membacking
