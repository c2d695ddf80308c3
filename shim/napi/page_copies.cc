// Copies of pages as JavaScript calls them. Stretches are offset and length, one after the other.

#include "napi/page_copies.h"

#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "host/fault_guard.h"
#include "host/page_copy.h"
#include "napi/args.h"
#include "napi/file_parts.h"
#include "napi/object_handle.h"
#include "napi/pool_work.h"
#include "napi/stretch_list.h"

namespace membacking {
namespace {

/// Bytes that a place, and what is copied there, have at most: together they end where files do.
constexpr uint64_t kMost = uint64_t{1} << 62;

uint64_t toOffset(const Napi::Value& value) {
  const uint64_t offset = toU64(value, "offset");
  if (offset >= kMost) throwRange(value.Env(), "offset", "below 2^62");
  return offset;
}

/// Offset in a file, which is duplicated and so stays open.
FilePlace toPlace(Napi::Env env, int fd, uint64_t offset) {
  FilePlace place = {FileDescriptor::duplicate(fd), offset};
  if (!place.file.isOpen()) check(env, failedCall("fcntl"));
  return place;
}

/// Stretches of whole pages, upwards.
std::vector<Stretch> toStretches(const Napi::Value& value) {
  const Napi::Float64Array list = toNumbers(value, "stretches");
  const auto isPages = [](double bytes) {
    return bytes >= 0 && bytes < double{kMost} && static_cast<uint64_t>(bytes) % kPageSize == 0;
  };
  std::vector<Stretch> stretches;
  uint64_t end = 0;
  for (size_t i = 0; i + 1 < list.ElementLength(); i += 2) {
    const bool isWhole = isPages(list[i]) && isPages(list[i + 1]);
    const Stretch stretch = isWhole ? Stretch{static_cast<uint64_t>(list[i]), static_cast<uint64_t>(list[i + 1])} : Stretch{0, 0};
    if (stretch.length == 0 || stretch.offset < end || stretch.length > kMost - stretch.offset) {
      throwRange(value.Env(), "stretches", "whole pages, upwards");
    }
    stretches.push_back(stretch);
    end = stretch.offset + stretch.length;
  }
  return stretches;
}

/// Sets the source of a copy: a file, by its descriptor, or an object.
void setSource(const Napi::CallbackInfo& info, PageCopy& copy) {
  const Napi::Env env = info.Env();
  const uint64_t offset = toOffset(info[1]);
  if (info[0].IsNumber()) {
    copy.from = toPlace(env, toFd(info[0]), offset);
    return;
  }
  const std::shared_ptr<MemoryObject> object = ObjectHandle::from(info[0], "from");
  installFaultGuard();
  if (object->isShared) {
    copy.from = toPlace(env, object->fd.get(), offset);
    copy.view = object->viewAll();
    return;
  }
  if (offset != 0) throwRange(env, "offset", "0 for private memory");
  copy.memory = object;
  if (info[8].IsUndefined() || !object->fd.isOpen()) return;
  copy.from = toPlace(env, object->fd.get(), object->fileOffset);
  copy.own = toStretches(info[8]);
}

}  // namespace

Napi::Value copyPages(const Napi::CallbackInfo& info) {
  struct Work {
    PageCopy copy;
    std::vector<Stretch> copied;
    uint32_t crc32 = 0;
  };
  const auto work = std::make_shared<Work>();
  PageCopy& copy = work->copy;
  setSource(info, copy);
  if (!info[2].IsUndefined()) copy.to = toPlace(info.Env(), toFd(info[2]), toOffset(info[3]));
  copy.stretches = toStretches(info[4]);
  copy.leavesOut = toBool(info[5], "leavesOut");
  if (!info[6].IsUndefined()) {
    copy.base.files = toFiles(info[6]);
    copy.base.parts = toParts(info[7], kMost, copy.base.files.size(), false);
  }
  if (!copy.isInside()) throwRange(info.Env(), "stretches", "inside the memory");
  return PoolWork::start(
      info.Env(), "membacking.copyPages", [work] { return work->copy.run(work->copied, work->crc32); },
      [work](Napi::Env env) -> Napi::Value {
        Napi::Object result = Napi::Object::New(env);
        result.Set("pages", stretchList(env, work->copied));
        result.Set("crc32", Napi::Number::New(env, work->crc32));
        return result;
      });
}

}  // namespace membacking
