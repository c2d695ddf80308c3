#include "executor.h"

#include <sys/mman.h>

#include <cstddef>
#include <cstring>
#include <string>

#include "abi.h"

namespace membacking {

static_assert(sizeof(Command) == abi::COMMAND_SIZE && offsetof(Command, op) == abi::COMMAND_OP &&
              offsetof(Command, sink) == abi::COMMAND_SINK && offsetof(Command, gpa) == abi::COMMAND_GPA &&
              offsetof(Command, length) == abi::COMMAND_LENGTH && offsetof(Command, offset) == abi::COMMAND_OFFSET &&
              offsetof(Command, backing) == abi::COMMAND_BACKING &&
              offsetof(Command, access) == abi::COMMAND_ACCESS && offsetof(Command, slot) == abi::COMMAND_SLOT &&
              offsetof(Command, region) == abi::COMMAND_REGION &&
              offsetof(Command, offsetInRegion) == abi::COMMAND_OFFSET_IN_REGION);
static_assert(kPageSize == abi::PAGE_SIZE);

namespace {

/// The access of private pages that are at home.
constexpr int kReadWrite = PROT_READ | PROT_WRITE;

constexpr Failure invalid(const char* reason) { return {EINVAL, "plan", reason}; }

/// Guests execute through their own page tables: the VMM's mapping is never executable.
int protectionOf(uint32_t access) {
  return (access & abi::ACCESS_READ ? PROT_READ : 0) | (access & abi::ACCESS_WRITE ? PROT_WRITE : 0);
}

Limits::Use useOf(uint32_t access) {
  if (access & abi::ACCESS_WRITE) return Limits::Use::kAll;
  return access & abi::ACCESS_READ ? Limits::Use::kRead : Limits::Use::kNothing;
}

}  // namespace

uint32_t Executor::run(const uint8_t* records, uint32_t count, Failure& failure) {
  for (uint32_t done = 0; done != count; done++) {
    Command command;
    // SAFETY: the caller has checked that `count` records lie in its buffer. Copied once, so that what is checked is
    // what is carried out.
    std::memcpy(&command, records + static_cast<size_t>(done) * sizeof command, sizeof command);
    failure = execute(command);
    if (failure) return done;
  }
  return count;
}

Failure Executor::execute(const Command& command) {
  if (command.length == 0) return invalid("the length is 0");
  if (command.gpa % kPageSize != 0 || command.length % kPageSize != 0) return invalid("the range is not whole pages");
  if ((command.access & ~static_cast<uint32_t>(abi::ACCESS_ALL)) != 0) return invalid("there is no such access");
  switch (command.op) {
    case abi::OP_VA_MAP:
    case abi::OP_VA_UNMAP:
    case abi::OP_VA_PROTECT:
    case abi::OP_VA_PARK:
    case abi::OP_VA_UNPARK:
    case abi::OP_VA_LIMIT:
      return executeVa(command);
    case abi::OP_SLOT_ADD:
    case abi::OP_SLOT_DELETE:
      return executeSlot(command);
    default:
      return invalid("there is no such operation");
  }
}

Failure Executor::executeVa(const Command& command) {
  const std::shared_ptr<Reservation>* reservation = vaSpace(command.sink);
  if (reservation == nullptr) return invalid("the sink is no VA space");
  Mapping& space = (*reservation)->mapping();
  if (!space.contains(command.gpa, command.length)) return invalid("the range is not inside its VA space");
  if (const Failure failure = spendMappings(command.op == abi::OP_VA_UNMAP)) return failure;
  switch (command.op) {
    case abi::OP_VA_UNMAP:
      return space.clear(command.gpa, command.length);
    case abi::OP_VA_PROTECT: {
      const Backing* backing = object(command.backing);
      if (backing == nullptr) return invalid("there is no such object");
      if ((command.access & abi::ACCESS_WRITE) != 0 && !backing->isWritable) return invalid("the object is read-only");
      return space.protect(command.gpa, command.length, protectionOf(command.access));
    }
    case abi::OP_VA_MAP:
      return mapShared(command, space);
    case abi::OP_VA_PARK:
      return park(command, space);
    case abi::OP_VA_LIMIT:
      (*reservation)->limits().set({command.gpa, command.gpa + command.length, useOf(command.access)});
      return kDone;
    default:
      return unpark(command, space);
  }
}

Failure Executor::mapShared(const Command& command, Mapping& space) {
  const Backing* backing = object(command.backing);
  if (backing == nullptr) return invalid("there is no such object");
  if (!backing->isShared) return invalid("private memory is not mapped, it is moved");
  if (!backing->contains(command.offset, command.length)) return invalid("the range is not inside the object");
  // The kernel would round the length of a huge page mapping up, beyond what was checked.
  if (((command.gpa | command.length | command.offset) & (backing->granularity - 1)) != 0) {
    return invalid("the range is not whole pages of the object");
  }
  if ((command.access & abi::ACCESS_WRITE) != 0 && !backing->isWritable) return invalid("the object is read-only");
  const int protection = protectionOf(command.access);
  return backing->showShared(space, command.gpa, command.length, protection, command.offset);
}

Failure Executor::findPrivate(const Command& command, Backing*& backing) const {
  backing = object(command.backing);
  if (backing == nullptr) return invalid("there is no such object");
  if (backing->isShared) return invalid("only private memory is parked");
  if (!backing->home.contains(command.offset, command.length)) return invalid("the range is not inside the object");
  if (command.offset % kPageSize != 0) return invalid("the offset is not a whole page");
  return kDone;
}

Failure Executor::park(const Command& command, Mapping& space) {
  Backing* backing = nullptr;
  if (const Failure failure = findPrivate(command, backing)) return failure;
  Mapping& home = backing->home;
  // First without access, so that nobody reads the empty pages or writes what is lost, before the range is clear.
  if (const Failure failure = space.protect(command.gpa, command.length, PROT_NONE)) return failure;
  if (const Failure failure = backing->move(space, command.gpa, home, command.offset, command.length)) {
    return halfDone(failure, failure.moved);
  }
  const Failure failure = home.protect(command.offset, command.length, kReadWrite);
  return failure ? halfDone(failure, command.length) : kDone;
}

Failure Executor::unpark(const Command& command, Mapping& space) {
  Backing* backing = nullptr;
  if (const Failure failure = findPrivate(command, backing)) return failure;
  Mapping& home = backing->home;
  // First with the access that it is to have, so that the guest finds either what was there or this.
  Failure failure = home.protect(command.offset, command.length, protectionOf(command.access));
  if (failure) {
    failure.isHalfDone = false;
  } else {
    failure = backing->move(home, command.offset, space, command.gpa, command.length);
  }
  if (!failure || failure.moved == command.length) return failure;
  // What stays at home is as it was. Where that fails too, the next command for it sets it anyway.
  static_cast<void>(home.protect(command.offset + failure.moved, command.length - failure.moved, kReadWrite));
  return failure;
}

Failure Executor::executeSlot(const Command& command) {
  Vm* vm = partition(command.sink);
  if (vm == nullptr) return invalid("the sink is no partition");
  const std::shared_ptr<Reservation>* reservation = vaSpace(command.backing);
  if (reservation == nullptr) return invalid("the backing is no VA space");
  if (command.offset % kPageSize != 0) return invalid("the offset is not a whole page");
  if (!(*reservation)->mapping().contains(command.offset, command.length)) {
    return invalid("the range is not inside its VA space");
  }
  if (command.slot >= vm->slotLimit()) return invalid("the partition has no such slot");
  if (command.op == abi::OP_SLOT_DELETE) {
    return vm->hasSlot(command.slot) ? vm->deleteSlot(command.slot) : invalid("the slot is empty");
  }
  if (vm->hasSlot(command.slot)) return invalid("the slot is in use");
  if ((command.access & abi::ACCESS_READ) == 0) return invalid("a slot is at least readable");
  const bool isReadOnly = (command.access & abi::ACCESS_WRITE) == 0;
  return vm->addSlot(command.slot, command.gpa, command.length, *reservation, command.offset, isReadOnly);
}

uint32_t Executor::secure(const uint8_t* record, bool mayReplace) {
  Command command;
  // SAFETY: the caller has checked that a record lies in its buffer.
  std::memcpy(&command, record, sizeof command);
  if (Vm* vm = partition(command.sink)) {
    if (!vm->hasSlot(command.slot) || !vm->deleteSlot(command.slot)) return abi::SECURED_CLOSED;
    vm->shutDown();
    return abi::SECURED_DOWN;
  }
  const std::shared_ptr<Reservation>* reservation = vaSpace(command.sink);
  if (reservation == nullptr) return abi::SECURED_CLOSED;
  Mapping& space = (*reservation)->mapping();
  const uint64_t ends = command.gpa | command.length;
  if (!space.contains(command.gpa, command.length) || ends % kPageSize != 0) return abi::SECURED_CLOSED;
  if (!space.protect(command.gpa, command.length, PROT_NONE)) return abi::SECURED_CLOSED;
  return mayReplace && !space.clear(command.gpa, command.length) ? abi::SECURED_CLOSED : abi::SECURED_OPEN;
}

void Executor::shutDown(uint32_t sink) {
  if (Vm* vm = partition(sink)) vm->shutDown();
}

const std::shared_ptr<Reservation>* Executor::vaSpace(uint32_t sink) const {
  return sink < sinks_.size() && sinks_[sink].vaSpace ? &sinks_[sink].vaSpace : nullptr;
}

Vm* Executor::partition(uint32_t sink) const { return sink < sinks_.size() ? sinks_[sink].partition.get() : nullptr; }

Backing* Executor::object(uint32_t id) const { return id < objects_.size() ? objects_[id].get() : nullptr; }

void Executor::setVaSpace(uint32_t sink, std::shared_ptr<Reservation> reservation) {
  if (sink >= sinks_.size()) sinks_.resize(sink + 1);
  sinks_[sink] = {std::move(reservation), nullptr};
}

void Executor::setPartition(uint32_t sink, std::shared_ptr<Vm> vm) {
  if (sink >= sinks_.size()) sinks_.resize(sink + 1);
  sinks_[sink] = {nullptr, std::move(vm)};
}

void Executor::setObject(uint32_t object, std::shared_ptr<Backing> backing) {
  if (object >= objects_.size()) objects_.resize(object + 1);
  objects_[object] = std::move(backing);
}

ExecutorHandle::ExecutorHandle(const Napi::CallbackInfo& info) : Handle(info) {
  bind<&ExecutorHandle::run>(info, "run");
  bind<&ExecutorHandle::unwind>(info, "unwind");
  bind<&ExecutorHandle::secure>(info, "secure");
}

void ExecutorHandle::define(Napi::Env env, Napi::Object exports) {
  Handle::define(env, exports,
                 {
                     StaticMethod<&ExecutorHandle::create>("create"),
                     InstanceMethod<&ExecutorHandle::setVaSpace>("setVaSpace"),
                     InstanceMethod<&ExecutorHandle::setPartition>("setPartition"),
                     InstanceMethod<&ExecutorHandle::clearSink>("clearSink"),
                     InstanceMethod<&ExecutorHandle::setObject>("setObject"),
                     InstanceMethod<&ExecutorHandle::clearObject>("clearObject"),
                     InstanceMethod<&ExecutorHandle::shutDown>("shutDown"),
                     InstanceAccessor<&ExecutorHandle::failure>("failure"),
                     InstanceAccessor<&ExecutorHandle::answer>("answer"),
                     InstanceAccessor<&ExecutorHandle::moved>("moved"),
                     InstanceMethod<&ExecutorHandle::close>("close"),
                 });
}

Napi::Value ExecutorHandle::create(const Napi::CallbackInfo& info) {
  Headroom::prepare();
  return wrap(info.Env(), std::make_shared<Executor>());
}

/// Ids in records begin at 0 or 1, as the core likes; the largest is the capacity.
static uint32_t toSink(const Napi::Value& value) { return toU32(value, "sink", abi::MAX_SINKS); }
static uint32_t toObject(const Napi::Value& value) { return toU32(value, "object", abi::MAX_OBJECTS); }

void ExecutorHandle::setVaSpace(const Napi::CallbackInfo& info) {
  const uint32_t sink = toSink(info[0]);
  core(info).setVaSpace(sink, ReservationHandle::from(info[1], "reservation"));
}

void ExecutorHandle::setPartition(const Napi::CallbackInfo& info) {
  const uint32_t sink = toSink(info[0]);
  core(info).setPartition(sink, VmHandle::from(info[1], "vm"));
}

void ExecutorHandle::clearSink(const Napi::CallbackInfo& info) { core(info).setVaSpace(toSink(info[0]), nullptr); }

void ExecutorHandle::setObject(const Napi::CallbackInfo& info) {
  const uint32_t object = toObject(info[0]);
  core(info).setObject(object, BackingHandle::from(info[1], "backing"));
}

void ExecutorHandle::clearObject(const Napi::CallbackInfo& info) { core(info).setObject(toObject(info[0]), nullptr); }

Napi::Value ExecutorHandle::unwind(const Napi::CallbackInfo& info) {
  const Headroom headroom;
  return carryOut(info);
}

/// Where `count` records are, from `pointer` on in `memory`.
static const uint8_t* toRecords(const Napi::Value& value, const Napi::Value& pointer, uint32_t count) {
  if (!value.IsArrayBuffer()) throwType(value.Env(), "memory", "an ArrayBuffer");
  Napi::ArrayBuffer memory = value.As<Napi::ArrayBuffer>();
  const uint64_t start = toU32(pointer, "pointer");
  // Two 32-bit numbers and a small factor: nothing overflows 64 bits.
  if (start + uint64_t{count} * sizeof(Command) > memory.ByteLength()) {
    throwRange(value.Env(), "count", "no more records than are in the memory");
  }
  // SAFETY: the whole range is inside the buffer (above); JavaScript cannot run, so the buffer stays, until the call ends.
  return static_cast<const uint8_t*>(memory.Data()) + start;
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
  if (failure_.error == ENOMEM && (done != 0 || failure_.isHalfDone)) {
    headroom_.emplace();
  } else {
    headroom_.reset();
  }
  return Napi::Number::New(info.Env(), done);
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

void ExecutorHandle::close(const Napi::CallbackInfo&) { release(); }

}  // namespace membacking
