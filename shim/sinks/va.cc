// Commands for VA spaces: each is checked against the reservation and the object, then carried out by them.

#include "sinks/va.h"

#include "host/headroom.h"

namespace membacking {
namespace {

/// Finds an object for a command that gives `command.access` to what it shows.
Failure findObject(const Command& command, const Targets& targets, MemoryObject*& object) {
  object = targets.object(command.object);
  if (object == nullptr) return invalid("there is no such object");
  const bool isWrite = (command.access & abi::ACCESS_WRITE) != 0;
  return isWrite && !object->isWritable ? invalid("the object is read-only") : kDone;
}

/// Finds the private object of a command that parks or unparks.
Failure findPrivate(const Command& command, const Targets& targets, MemoryObject*& object) {
  object = targets.object(command.object);
  if (object == nullptr) return invalid("there is no such object");
  if (object->isShared) return invalid("only private memory is parked");
  if (!object->home.contains(command.offset, command.length)) return invalid("the range is not inside the object");
  if (command.offset % kPageSize != 0) return invalid("the offset is not a whole page");
  return kDone;
}

}  // namespace

Failure VaSink::execute(const Command& command, const Targets& targets) {
  // A limit may begin and end inside of a page.
  if (!isWholePages(command) && command.op != abi::OP_VA_LIMIT) return invalid("the range is not whole pages");
  if (!space().contains(command.gpa, command.length)) return invalid("the range is not inside its VA space");
  if (const Failure failure = spendMappings(command.op == abi::OP_VA_UNMAP)) return failure;
  switch (command.op) {
    case abi::OP_VA_MAP:
      return map(command, targets);
    case abi::OP_VA_UNMAP:
      return space().clear(command.gpa, command.length);
    case abi::OP_VA_PROTECT:
      return protect(command, targets);
    case abi::OP_VA_PARK:
      return park(command, targets);
    case abi::OP_VA_UNPARK:
      return unpark(command, targets);
    case abi::OP_VA_LIMIT:
      return limit(command);
    default:
      return invalid("the sink has no such operation");
  }
}

Failure VaSink::map(const Command& command, const Targets& targets) {
  MemoryObject* object = nullptr;
  if (const Failure failure = findObject(command, targets, object)) return failure;
  if (!object->isShared) return invalid("private memory is not mapped, it is moved");
  if (!object->contains(command.offset, command.length)) return invalid("the range is not inside the object");
  // The kernel would round the length of a huge page mapping up, beyond what was checked.
  if (((command.gpa | command.length | command.offset) & (object->granularity - 1)) != 0) {
    return invalid("the range is not whole pages of the object");
  }
  return object->showShared(space(), command.gpa, command.length, useOf(command.access), command.offset);
}

Failure VaSink::protect(const Command& command, const Targets& targets) {
  MemoryObject* object = nullptr;
  if (const Failure failure = findObject(command, targets, object)) return failure;
  return space().protect(command.gpa, command.length, useOf(command.access));
}

Failure VaSink::park(const Command& command, const Targets& targets) {
  MemoryObject* object = nullptr;
  if (const Failure failure = findPrivate(command, targets, object)) return failure;
  Mapping& home = object->home;
  // First without access, so that nobody reads the empty pages or writes what is lost, before the range is clear.
  if (const Failure failure = space().protect(command.gpa, command.length, Use::kNothing)) return failure;
  if (const Failure failure = object->moveHome(reservation_, command.gpa, command.offset, command.length)) {
    return halfDone(failure, failure.moved);
  }
  const Failure failure = home.protect(command.offset, command.length, Use::kAll);
  return failure ? halfDone(failure, command.length) : kDone;
}

Failure VaSink::unpark(const Command& command, const Targets& targets) {
  MemoryObject* object = nullptr;
  if (const Failure failure = findPrivate(command, targets, object)) return failure;
  Mapping& home = object->home;
  // First with the access that it is to have, so that the guest finds either what was there or this.
  Failure failure = home.protect(command.offset, command.length, useOf(command.access));
  if (failure) {
    failure.isHalfDone = false;
  } else {
    failure = object->moveOut(command.offset, reservation_, command.gpa, command.length);
  }
  if (!failure || failure.moved == command.length) return failure;
  // What stays at home is as it was. Where that fails too, the next command for it sets it anyway.
  static_cast<void>(home.protect(command.offset + failure.moved, command.length - failure.moved, Use::kAll));
  return failure;
}

Failure VaSink::limit(const Command& command) {
  reservation_->limits().set({command.gpa, command.gpa + command.length, useOf(command.access)});
  return kDone;
}

uint32_t VaSink::secure(const Command& command, bool mayReplace) {
  if (!space().contains(command.gpa, command.length)) return abi::SECURED_CLOSED;
  // A limit may end inside of a page, which is closed as a whole.
  const uint64_t start = command.gpa & ~(kPageSize - 1);
  const uint64_t length = (command.gpa + command.length - start + kPageSize - 1) & ~(kPageSize - 1);
  if (mayReplace && !space().clear(start, length)) return abi::SECURED_CLOSED;
  return space().protect(start, length, Use::kNothing) ? abi::SECURED_OPEN : abi::SECURED_CLOSED;
}

}  // namespace membacking
