// Memory objects as JavaScript calls them: checks sizes and descriptors, and starts long work in the background.

#include "napi/object_handle.h"

#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "napi/pager_handle.h"
#include "napi/pool_work.h"

namespace membacking {

void ObjectHandle::define(Napi::Env env, Napi::Object exports) {
  Handle::define(env, exports,
                 {
                     StaticMethod<&ObjectHandle::memfd>("memfd"),
                     StaticMethod<&ObjectHandle::fromFd>("fromFd"),
                     StaticMethod<&ObjectHandle::checkAccess>("checkAccess"),
                     StaticMethod<&ObjectHandle::isSameOpenFile>("isSameOpenFile"),
                     StaticMethod<&ObjectHandle::privateMemory>("privateMemory"),
                     StaticMethod<&ObjectHandle::privateFile>("privateFile"),
                     StaticMethod<&ObjectHandle::lazyMemory>("lazyMemory"),
                     InstanceAccessor<&ObjectHandle::block>("block"),
                     InstanceAccessor<&ObjectHandle::kind>("kind"),
                     InstanceAccessor<&ObjectHandle::size>("size"),
                     InstanceAccessor<&ObjectHandle::writable>("writable"),
                     InstanceAccessor<&ObjectHandle::granularity>("granularity"),
                     InstanceAccessor<&ObjectHandle::fd>("fd"),
                     InstanceAccessor<&ObjectHandle::allocatedBytes>("allocatedBytes"),
                     InstanceAccessor<&ObjectHandle::isShrinkable>("isShrinkable"),
                     InstanceMethod<&ObjectHandle::leave>("leave"),
                     InstanceMethod<&ObjectHandle::discard>("discard"),
                     InstanceMethod<&ObjectHandle::discardLater>("discardLater"),
                     InstanceMethod<&ObjectHandle::populate>("populate"),
                     InstanceMethod<&ObjectHandle::fetch>("fetch"),
                     InstanceMethod<&ObjectHandle::fetchNow>("fetchNow"),
                     InstanceMethod<&ObjectHandle::drop>("drop"),
                     InstanceMethod<&ObjectHandle::whyMissing>("whyMissing"),
                     InstanceMethod<&ObjectHandle::setNumaNode>("setNumaNode"),
                     InstanceMethod<&ObjectHandle::adviseHugePages>("adviseHugePages"),
                     InstanceMethod<&ObjectHandle::pin>("pin"),
                     InstanceMethod<&ObjectHandle::copy<false>>("read"),
                     InstanceMethod<&ObjectHandle::copy<true>>("write"),
                     InstanceMethod<&ObjectHandle::stretches<&MemoryObject::findFileData>>("fileData"),
                     InstanceMethod<&ObjectHandle::stretches<&MemoryObject::findOwnPages>>("ownPages"),
                     InstanceMethod<&ObjectHandle::close>("close"),
                 });
}

/// Size in whole pages of `granularity`, at least one, at most as large as a file can be.
static uint64_t toSize(const Napi::Value& value, uint64_t granularity = kPageSize) {
  const uint64_t size = toU64(value, "size");
  if (size == 0 || size % granularity != 0 || size > std::numeric_limits<int64_t>::max()) {
    throwRange(value.Env(), "size", "whole pages, at least one, below 2^63");
  }
  return size;
}

/// Descriptor of something that can be mapped. Comes before a size is looked at: for others none would do.
static int toMappable(const Napi::Value& value) {
  const int fd = toFd(value);
  check(value.Env(), MemoryObject::checkMappable(fd));
  return fd;
}

Napi::Value ObjectHandle::memfd(const Napi::CallbackInfo& info) {
  const std::string name = toString(info[0], "name");
  const uint64_t hugePageSize = toU64(info[2], "hugePageSize");
  if (hugePageSize != 0 && (hugePageSize < kPageSize || (hugePageSize & (hugePageSize - 1)) != 0)) {
    throwRange(info.Env(), "hugePageSize", "0 or a power of two that is a page size");
  }
  const uint64_t size = toSize(info[1], hugePageSize != 0 ? hugePageSize : kPageSize);
  std::shared_ptr<MemoryObject> object;
  const bool isReserved = info[3].IsUndefined() || toBool(info[3], "isReserved");
  check(info.Env(), MemoryObject::memfd(name, size, hugePageSize, isReserved, object));
  return wrap(info.Env(), std::move(object));
}

Napi::Value ObjectHandle::fromFd(const Napi::CallbackInfo& info) {
  const int fd = toMappable(info[0]);
  std::shared_ptr<MemoryObject> object;
  const bool mayGrow = !info[3].IsUndefined() && toBool(info[3], "mayGrow");
  const bool isReserved = info[4].IsUndefined() || toBool(info[4], "isReserved");
  const bool isWritable = toBool(info[2], "writable");
  check(info.Env(), MemoryObject::fromFd(fd, toSize(info[1]), isWritable, mayGrow, isReserved, object));
  return wrap(info.Env(), std::move(object));
}

void ObjectHandle::checkAccess(const Napi::CallbackInfo& info) {
  check(info.Env(), MemoryObject::checkAccess(toMappable(info[0]), toBool(info[1], "writable")));
}

Napi::Value ObjectHandle::isSameOpenFile(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), membacking::isSameOpenFile(toFd(info[0]), toFd(info[1])));
}

Napi::Value ObjectHandle::privateMemory(const Napi::CallbackInfo& info) {
  std::shared_ptr<MemoryObject> object;
  check(info.Env(), MemoryObject::privateMemory(toSize(info[0]), toFullName("membacking:ram", info[1]), object));
  return wrap(info.Env(), std::move(object));
}

Napi::Value ObjectHandle::privateFile(const Napi::CallbackInfo& info) {
  const int fd = toMappable(info[0]);
  std::shared_ptr<MemoryObject> object;
  const uint64_t fileOffset = info[2].IsUndefined() ? 0 : toU64(info[2], "fileOffset");
  if (fileOffset > std::numeric_limits<int64_t>::max()) throwRange(info.Env(), "fileOffset", "below 2^63");
  check(info.Env(), MemoryObject::privateFile(fd, fileOffset, toSize(info[1]), object));
  return wrap(info.Env(), std::move(object));
}

Napi::Value ObjectHandle::lazyMemory(const Napi::CallbackInfo& info) {
  const std::shared_ptr<Pager> pager = PagerHandle::from(info[0], "pager");
  const uint64_t size = toSize(info[1]);
  const std::string name = toFullName("membacking:ram", info[2]);
  std::vector<FileDescriptor> files = toFiles(info[3]);
  RangeMap<FilePart> parts = toParts(info[4], size, files.size(), true);
  std::shared_ptr<MemoryObject> object;
  check(info.Env(), MemoryObject::lazyMemory(pager, size, name, std::move(parts), std::move(files), object));
  return wrap(info.Env(), std::move(object));
}

Napi::Value ObjectHandle::block(const Napi::CallbackInfo& info) {
  const MemoryObject& object = core(info);
  if (object.lazy == nullptr) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), object.lazy->number);
}

Napi::Value ObjectHandle::kind(const Napi::CallbackInfo& info) {
  const MemoryObject& object = core(info);
  const char* shared = object.fileKind == FileKind::kDriver ? "driver" : "shared";
  return Napi::String::New(info.Env(), object.isShared ? shared : "private");
}

Napi::Value ObjectHandle::size(const Napi::CallbackInfo& info) {
  return Napi::BigInt::New(info.Env(), core(info).size);
}

Napi::Value ObjectHandle::writable(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), core(info).isWritable);
}

Napi::Value ObjectHandle::granularity(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(core(info).granularity));
}

Napi::Value ObjectHandle::fd(const Napi::CallbackInfo& info) {
  const MemoryObject& object = core(info);
  if (!object.isShared) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), object.fd.get());
}

Napi::Value ObjectHandle::allocatedBytes(const Napi::CallbackInfo& info) {
  const MemoryObject& object = core(info);
  if (!object.isShared) return info.Env().Undefined();
  uint64_t bytes = 0;
  check(info.Env(), object.readAllocated(bytes));
  return Napi::BigInt::New(info.Env(), bytes);
}

Napi::Value ObjectHandle::isShrinkable(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), core(info).isShrinkable());
}

/// Ranges of all arguments.
static std::vector<Stretch> toRanges(const Napi::CallbackInfo& info) {
  std::vector<Stretch> ranges;
  for (size_t i = 0; i == 0 || i < info.Length(); i += 2) {
    ranges.push_back({toU64(info[i], "offset"), toU64(info[i + 1], "length")});
  }
  return ranges;
}

void ObjectHandle::leave(const Napi::CallbackInfo& info) { check(info.Env(), core(info).leave(toRanges(info))); }

Napi::Value ObjectHandle::discard(const Napi::CallbackInfo& info) {
  MemoryObject& object = core(info);
  const std::vector<Stretch> ranges = toRanges(info);
  uint64_t freed = 0;
  check(info.Env(), object.leave(ranges));
  check(info.Env(), object.free(ranges, freed));
  return Napi::BigInt::New(info.Env(), freed);
}

Napi::Value ObjectHandle::discardLater(const Napi::CallbackInfo& info) {
  const std::shared_ptr<MemoryObject> object = shared(info.Env());
  if (!object->isShared) throwType(info.Env(), "this", "shared memory");
  const std::vector<Stretch> ranges = toRanges(info);
  check(info.Env(), object->leave(ranges));
  const auto freed = std::make_shared<uint64_t>(0);
  return PoolWork::start(
      info.Env(), "membacking.discard", [object, ranges, freed] { return object->free(ranges, *freed); },
      [object, ranges, freed](Napi::Env env) {
        // Some were zeroes only when they had been written last.
        check(env, object->leave(ranges));
        return Napi::BigInt::New(env, *freed);
      });
}

Napi::Value ObjectHandle::populate(const Napi::CallbackInfo& info) {
  const uint64_t offset = toU64(info[0], "offset");
  const uint64_t length = toU64(info[1], "length");
  return PoolWork::start(info.Env(), "membacking.populate", [object = shared(info.Env()), offset, length] {
    return object->populate(offset, length);
  });
}

Napi::Value ObjectHandle::fetch(const Napi::CallbackInfo& info) {
  const uint64_t offset = toU64(info[0], "offset");
  const uint64_t length = toU64(info[1], "length");
  if (!core(info).contains(offset, length)) throwRange(info.Env(), "length", "inside the object, and not 0");
  return PoolWork::start(info.Env(), "membacking.fetch", [object = shared(info.Env()), offset, length] {
    return object->fetch(offset, length);
  });
}

void ObjectHandle::fetchNow(const Napi::CallbackInfo& info) {
  const MemoryObject& object = core(info);
  const uint64_t offset = toU64(info[0], "offset");
  const uint64_t length = toU64(info[1], "length");
  if (!object.contains(offset, length)) throwRange(info.Env(), "length", "inside the object, and not 0");
  check(info.Env(), object.fetch(offset, length));
}

void ObjectHandle::drop(const Napi::CallbackInfo& info) {
  core(info).drop(toU64(info[0], "offset"), toU64(info[1], "length"));
}

Napi::Value ObjectHandle::whyMissing(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), core(info).whyMissing(toU64(info[0], "offset")).reason);
}

void ObjectHandle::setNumaNode(const Napi::CallbackInfo& info) {
  check(info.Env(), core(info).setNode(toU32(info[0], "node")));
}

Napi::Value ObjectHandle::adviseHugePages(const Napi::CallbackInfo& info) {
  bool atTouch = false;
  check(info.Env(), core(info).adviseHugePages(atTouch));
  return Napi::Boolean::New(info.Env(), atTouch);
}

void ObjectHandle::pin(const Napi::CallbackInfo& info) { check(info.Env(), core(info).pin()); }

template <bool isWrite>
Napi::Value ObjectHandle::copy(const Napi::CallbackInfo& info) {
  MemoryObject& object = core(info);
  const uint64_t offset = toU64(info[0], "offset");
  Napi::Uint8Array bytes = toBytes(info[1], "bytes");
  const uint64_t length = bytes.ByteLength();
  if (offset > object.size || length > object.size - offset) throwRange(info.Env(), "bytes", "inside the object");
  uint64_t done = 0;
  check(info.Env(), isWrite ? object.write(offset, bytes.Data(), length, done)
                            : object.read(offset, bytes.Data(), length, done));
  return Napi::Number::New(info.Env(), static_cast<double>(done));
}

/// Offset and length of each stretch, one after the other.
template <Failure (MemoryObject::*find)(std::vector<Stretch>&) const>
Napi::Value ObjectHandle::stretches(const Napi::CallbackInfo& info) {
  std::vector<Stretch> found;
  check(info.Env(), (core(info).*find)(found));
  Napi::BigUint64Array result = Napi::BigUint64Array::New(info.Env(), found.size() * 2);
  for (size_t i = 0; i < found.size(); i++) {
    result[2 * i] = found[i].offset;
    result[2 * i + 1] = found[i].length;
  }
  return result;
}

void ObjectHandle::close(const Napi::CallbackInfo&) { release(); }

}  // namespace membacking
