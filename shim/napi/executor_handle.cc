// Executors as JavaScript calls them: checks that records lie in the memory, and says how a plan ended.

#include "napi/executor_handle.h"

#include <cstring>
#include <string>

#include "abi.h"
#include "host/invariant.h"
#include "host/pages.h"
#include "napi/event_fd_handle.h"
#include "napi/leavings_handle.h"
#include "napi/mapper_handle.h"
#include "napi/object_handle.h"
#include "napi/sink_kinds.h"

namespace membacking {

ExecutorHandle::ExecutorHandle(const Napi::CallbackInfo& info) : Handle(info) {
  bind<&ExecutorHandle::run>(info, "run");
  bind<&ExecutorHandle::unwind>(info, "unwind");
  bind<&ExecutorHandle::secure>(info, "secure");
}

void ExecutorHandle::define(Napi::Env env, Napi::Object exports) {
  Handle::define(env, exports,
                 {
                     StaticMethod<&ExecutorHandle::create>("create"),
                     InstanceMethod<&ExecutorHandle::setSink>("setSink"),
                     InstanceMethod<&ExecutorHandle::setMapper>("setMapper"),
                     InstanceMethod<&ExecutorHandle::clearSink>("clearSink"),
                     InstanceMethod<&ExecutorHandle::setObject>("setObject"),
                     InstanceMethod<&ExecutorHandle::clearObject>("clearObject"),
                     InstanceMethod<&ExecutorHandle::setEvent>("setEvent"),
                     InstanceMethod<&ExecutorHandle::clearEvent>("clearEvent"),
                     InstanceMethod<&ExecutorHandle::setLeavings>("setLeavings"),
                     InstanceMethod<&ExecutorHandle::clearLeavings>("clearLeavings"),
                     InstanceMethod<&ExecutorHandle::giveBack>("giveBack"),
                     InstanceMethod<&ExecutorHandle::confirm>("confirm"),
                     InstanceMethod<&ExecutorHandle::shutDown>("shutDown"),
                     InstanceAccessor<&ExecutorHandle::failure>("failure"),
                     InstanceAccessor<&ExecutorHandle::answer>("answer"),
                     InstanceAccessor<&ExecutorHandle::moved>("moved"),
                     InstanceMethod<&ExecutorHandle::track>("track"),
                     InstanceMethod<&ExecutorHandle::collectDirty>("collectDirty"),
                     InstanceMethod<&ExecutorHandle::unwatched>("unwatched"),
                     InstanceMethod<&ExecutorHandle::untrack>("untrack"),
                     InstanceMethod<&ExecutorHandle::close>("close"),
                 });
}

Napi::Value ExecutorHandle::create(const Napi::CallbackInfo& info) {
  return wrap(info.Env(), std::make_shared<Executor>());
}

// Ids in records begin at 0 or 1, as the core likes; the largest is the capacity.

static uint32_t toSink(const Napi::Value& value) { return toU32(value, "sink", abi::MAX_SINKS); }
static uint32_t toObject(const Napi::Value& value) { return toU32(value, "object", abi::MAX_OBJECTS); }
static uint32_t toEvent(const Napi::Value& value) { return toU32(value, "event", abi::MAX_EVENTS); }

void ExecutorHandle::setSink(const Napi::CallbackInfo& info) {
  const uint32_t sink = toSink(info[0]);
  core(info).setSink(sink, makeSink(info[1], info[2]));
}

void ExecutorHandle::setMapper(const Napi::CallbackInfo& info) {
  const uint32_t sink = toSink(info[0]);
  core(info).setSink(sink, std::make_shared<MapperSink>(MapperHandle::from(info[1], "mapper")));
}

void ExecutorHandle::clearSink(const Napi::CallbackInfo& info) {
  core(info).setSink(toSink(info[0]), nullptr);
}

void ExecutorHandle::setObject(const Napi::CallbackInfo& info) {
  const uint32_t object = toObject(info[0]);
  core(info).setObject(object, ObjectHandle::from(info[1], "object"));
}

void ExecutorHandle::clearObject(const Napi::CallbackInfo& info) {
  core(info).setObject(toObject(info[0]), nullptr);
}

void ExecutorHandle::setEvent(const Napi::CallbackInfo& info) {
  const uint32_t event = toEvent(info[0]);
  core(info).setEvent(event, EventFdHandle::from(info[1], "eventFd"));
}

void ExecutorHandle::clearEvent(const Napi::CallbackInfo& info) {
  core(info).setEvent(toEvent(info[0]), nullptr);
}

void ExecutorHandle::setLeavings(const Napi::CallbackInfo& info) {
  core(info).setLeavings(LeavingsHandle::from(info[0], "leavings"));
}

void ExecutorHandle::clearLeavings(const Napi::CallbackInfo& info) {
  if (isOpen()) core(info).setLeavings(nullptr);
}

Napi::Value ExecutorHandle::unwind(const Napi::CallbackInfo& info) {
  const Headroom headroom;
  return carryOut(info);
}

/// Address of `count` records, from `pointer` on in `memory`.
static const uint8_t* toRecords(const Napi::Value& value, const Napi::Value& pointer, uint32_t count) {
  void* memory = nullptr;
  size_t length = 0;
  if (napi_get_arraybuffer_info(value.Env(), value, &memory, &length) != napi_ok) {
    throwType(value.Env(), "memory", "an ArrayBuffer");
  }
  const uint64_t start = toU32(pointer, "pointer");
  // Two 32-bit numbers and a small factor: nothing overflows 64 bits.
  if (start + uint64_t{count} * sizeof(Command) > length) {
    throwRange(value.Env(), "count", "no more records than are in the memory");
  }
  // SAFETY: the whole range is inside the buffer (above), which stays until the call ends: JavaScript cannot run.
  return static_cast<const uint8_t*>(memory) + start;
}

void ExecutorHandle::giveBack(const Napi::CallbackInfo& info) {
  if (!info[0].IsArrayBuffer()) throwType(info.Env(), "memory", "an ArrayBuffer");
  Napi::ArrayBuffer memory = info[0].As<Napi::ArrayBuffer>();
  const auto base = reinterpret_cast<uint64_t>(memory.Data());
  for (size_t i = 1; i + 1 < info.Length(); i += 2) {
    const uint64_t offset = toU64(info[i], "offset");
    const uint64_t length = toU64(info[i + 1], "length");
    const uint64_t size = memory.ByteLength();
    if (offset > size || length > size - offset) throwRange(info.Env(), "length", "inside the memory");
    const uint64_t start = pageEnd(base + offset);
    const uint64_t end = pageStart(base + offset + length);
    // SAFETY: whole pages of the buffer (above), which is private memory of this process. The caller says that their
    // bytes mean nothing.
    if (start < end) check(info.Env(), dropPages(reinterpret_cast<void*>(start), end - start));
  }
}

Napi::Value ExecutorHandle::secure(const Napi::CallbackInfo& info) {
  const Headroom headroom;
  Executor& executor = core(info);
  const uint8_t* record = toRecords(info[0], info[1], 1);
  return Napi::Number::New(info.Env(), executor.secure(record, toBool(info[2], "mayReplace")));
}

void ExecutorHandle::shutDown(const Napi::CallbackInfo& info) { core(info).shutDown(toSink(info[0])); }

Napi::Value ExecutorHandle::run(const Napi::CallbackInfo& info) {
  headroom_.reset();
  return carryOut(info);
}

Napi::Value ExecutorHandle::carryOut(const Napi::CallbackInfo& info) {
  Executor& executor = core(info);
  const uint32_t count = toU32(info[2], "count");
  failure_ = kDone;
  const uint32_t done = executor.run(toRecords(info[0], info[1], count), count, failure_);
  INVARIANT(failure_ ? done < count : done == count);
  if (failure_.error == ENOMEM && (done != 0 || failure_.isHalfDone)) {
    headroom_.emplace();
  } else {
    headroom_.reset();
  }
  return Napi::Number::New(info.Env(), done);
}

Napi::Value ExecutorHandle::confirm(const Napi::CallbackInfo& info) {
  Executor& executor = core(info);
  const bool isTakingBack = toBool(info[0], "isTakingBack");
  failure_ = kDone;
  const std::string who = executor.confirm(isTakingBack, failure_);
  return failure_ ? Napi::String::New(info.Env(), who) : info.Env().Undefined();
}

Napi::Value ExecutorHandle::failure(const Napi::CallbackInfo& info) {
  if (!failure_) return info.Env().Undefined();
  if (failure_.error != ENOMEM) return systemError(info.Env(), failure_).Value();
  const MappingCount count = countMappings();
  const std::string why = std::string(failure_.reason ? failure_.reason : std::strerror(failure_.error)) +
                          "; this process has " + std::to_string(count.now) + " mappings and may have " +
                          std::to_string(count.limit) + " (vm.max_map_count)";
  return systemError(info.Env(), {failure_.error, failure_.syscall, why.c_str()}).Value();
}

Napi::Value ExecutorHandle::answer(const Napi::CallbackInfo& info) {
  const int undone = failure_.isHalfDone ? abi::ANSWER_HALF_DONE : abi::ANSWER_NOT_DONE;
  return Napi::Number::New(info.Env(), failure_ ? undone : abi::ANSWER_DONE);
}

Napi::Value ExecutorHandle::moved(const Napi::CallbackInfo& info) {
  return Napi::BigInt::New(info.Env(), failure_.moved);
}

Napi::Value ExecutorHandle::track(const Napi::CallbackInfo& info) {
  if (!info[0].IsArray()) throwType(info.Env(), "shown", "an array");
  const Napi::Array pieces = info[0].As<Napi::Array>();
  std::vector<Command> shown;
  for (uint32_t index = 0; index < pieces.Length(); index++) {
    const Napi::Value value = pieces[index];
    if (!value.IsObject()) throwType(info.Env(), "shown", "an array of pieces");
    const Napi::Object piece = value.As<Napi::Object>();
    Command command = {};
    command.op = abi::OP_VA_MAP;
    command.sink = toSink(piece.Get("sink"));
    command.gpa = toU64(piece.Get("gpa"), "gpa");
    command.length = toU64(piece.Get("length"), "length");
    command.object = toObject(piece.Get("object"));
    command.offset = toU64(piece.Get("offset"), "offset");
    command.access = toU32(piece.Get("access"), "access", abi::ACCESS_ALL);
    shown.push_back(command);
  }
  uint32_t tracker = 0;
  const WatchMethod method = toBool(info[1], "byFaults") ? WatchMethod::kFaults : WatchMethod::kScans;
  check(info.Env(), core(info).trackers().begin(shown, method, tracker));
  return Napi::Number::New(info.Env(), tracker);
}

Napi::Value ExecutorHandle::collectDirty(const Napi::CallbackInfo& info) {
  std::vector<Trackers::Dirty> dirty;
  const uint32_t tracker = toU32(info[0], "tracker");
  check(info.Env(), core(info).trackers().collect(tracker, toBool(info[1], "isLooking"), dirty));
  size_t count = 0;
  for (const auto& [object, pages] : dirty) count += pages.size();
  Napi::Float64Array triples = Napi::Float64Array::New(info.Env(), 3 * count);
  double* next = triples.Data();
  for (const auto& [object, pages] : dirty) {
    for (const auto& [offset, length] : pages) {
      // Multiples of a page are exact as far as addresses go.
      *next++ = object;
      *next++ = static_cast<double>(offset);
      *next++ = static_cast<double>(length);
    }
  }
  return triples;
}

Napi::Value ExecutorHandle::unwatched(const Napi::CallbackInfo& info) {
  const std::vector<uint32_t> objects = core(info).trackers().unwatched();
  Napi::Array result = Napi::Array::New(info.Env(), objects.size());
  for (uint32_t i = 0; i < objects.size(); i++) result.Set(i, Napi::Number::New(info.Env(), objects[i]));
  return result;
}

void ExecutorHandle::untrack(const Napi::CallbackInfo& info) {
  if (isOpen()) core(info).trackers().end(toU32(info[0], "tracker"));
}

void ExecutorHandle::close(const Napi::CallbackInfo&) { release(); }

}  // namespace membacking
