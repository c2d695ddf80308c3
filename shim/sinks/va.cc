// Commands for VA spaces: each is checked against the reservation and the object, then carried out by them. Where one
// reaches over several stretches, it is carried out stretch by stretch.

#include "sinks/va.h"

#include <algorithm>
#include <tuple>
#include <utility>
#include <vector>

#include "host/headroom.h"
#include "host/write_hold.h"

namespace membacking {
namespace {

/// Finds an object for a command that gives `command.access` to what it shows.
Failure findObject(const Command& command, const Targets& targets, std::shared_ptr<MemoryObject>& object) {
  object = targets.object(command.object);
  if (object == nullptr) return invalid("there is no such object");
  const bool isWrite = (command.access & abi::ACCESS_WRITE) != 0;
  return isWrite && !object->isWritable ? invalid("the object is read-only") : kDone;
}

/// Finds the shared object of a command that maps.
Failure findShared(const Command& command, const Targets& targets, std::shared_ptr<MemoryObject>& object) {
  if (const Failure failure = findObject(command, targets, object)) return failure;
  if (!object->isShared) return invalid("private memory is not mapped, it is moved");
  if (!object->contains(command.offset, command.length)) return invalid("the range is not inside the object");
  // The kernel would round the length of a huge page mapping up, beyond what was checked.
  if (((command.gpa | command.length | command.offset) & (object->granularity - 1)) != 0) {
    return invalid("the range is not whole pages of the object");
  }
  return kDone;
}

/// Finds the private object of a command that parks or unparks.
Failure findPrivate(const Command& command, const Targets& targets, std::shared_ptr<MemoryObject>& object) {
  object = targets.object(command.object);
  if (object == nullptr) return invalid("there is no such object");
  if (object->isShared) return invalid("only private memory is parked");
  if (!object->home.contains(command.offset, command.length)) return invalid("the range is not inside the object");
  if (command.offset % kPageSize != 0) return invalid("the offset is not a whole page");
  return kDone;
}

bool isMove(const Command& command) { return command.op == abi::OP_VA_PARK || command.op == abi::OP_VA_UNPARK; }

/// Use of what a command that was carried out has left in its range, as far as that stays until the next one.
Use lastingUse(const Command& command, const Targets& targets) {
  const bool isShown = command.op == abi::OP_VA_MAP || command.op == abi::OP_VA_PROTECT || command.op == abi::OP_VA_UNPARK;
  return isShown && targets.object(command.object)->isLasting ? useOf(command.access) : Use::kNothing;
}

}  // namespace

Failure VaSink::execute(const Command& command, const Targets& targets) {
  if (command.length > UINT64_MAX - command.gpa) return invalid("the range is not inside its VA space");
  WindowsShut shut(reservation_->windows(), command.gpa, command.length);
  const Failure failure = carryOut(command, targets);
  const bool isUntouched = failure && !failure.isHalfDone;
  if (isUntouched || command.op == abi::OP_VA_LIMIT) return failure;
  shut.setLasting(failure ? Use::kNothing : lastingUse(command, targets));
  return failure;
}

Failure VaSink::carryOut(const Command& command, const Targets& targets) {
  if (command.op == abi::OP_VA_LIMIT) return limit(command);
  if (!isWholePages(command)) return invalid("the range is not whole pages");
  if (command.op == abi::OP_VA_RELEASE) return release(command);
  if (const Failure failure = spend(command)) return failure;
  if (command.op == abi::OP_VA_RESERVE) return reserve(command);
  return eachStretch(command, [&](const Command& part, HostRange& space) { return change(part, targets, space); });
}

/// Allows a command the mappings that it may add: one at each end of what is cut out of others, twice where pages move.
Failure VaSink::spend(const Command& command) const {
  if (isMove(command)) return spendMappings(4, false);
  const bool unmaps = command.op == abi::OP_VA_UNMAP;
  const uint64_t last = command.gpa + (command.length - 1);
  const Reservation::Share start = reservation_->find(command.gpa);
  const Reservation::Share end = reservation_->find(last);
  if (start == nullptr || end == nullptr) return spendMappings(2, unmaps);
  return spendMappingsAt(start->addressOf(command.gpa), end->addressOf(last) + 1, unmaps);
}

/// Calls `what(part, stretch)` for the part of a command in each stretch that it reaches into, up to the first that
/// fails.
template <typename Do>
Failure VaSink::eachStretch(const Command& command, Do what) const {
  const Reservation::Share only = reservation_->find(command.gpa, command.length);
  if (only != nullptr) return what(command, *only);
  std::vector<std::pair<Command, Reservation::Share>> parts;
  for (uint64_t done = 0; done != command.length;) {
    Reservation::Share stretch = reservation_->find(command.gpa + done);
    if (stretch == nullptr) return invalid("the range is not inside its VA space");
    Command part = command;
    part.gpa += done;
    part.offset += done;
    part.length = std::min(command.length - done, stretch->bytesFrom(part.gpa));
    done += part.length;
    parts.emplace_back(part, std::move(stretch));
  }
  for (const auto& [part, stretch] : parts) {
    const Failure failure = what(part, *stretch);
    const uint64_t done = part.gpa - command.gpa;
    if (failure) return done == 0 ? failure : halfDone(failure, isMove(command) ? done + failure.moved : 0);
  }
  return kDone;
}

Failure VaSink::change(const Command& command, const Targets& targets, HostRange& space) {
  switch (command.op) {
    case abi::OP_VA_MAP:
      return map(command, targets, space);
    case abi::OP_VA_UNMAP:
      return unmap(command, targets, space);
    case abi::OP_VA_PROTECT:
      return protect(command, targets, space);
    case abi::OP_VA_PARK:
      return park(command, targets, space);
    case abi::OP_VA_UNPARK:
      return unpark(command, targets, space);
    default:
      return kNoSuchOperation;
  }
}

Failure VaSink::reserve(const Command& command) {
  const uint64_t reach = reservation_->reach();
  if (command.gpa >= reach || command.length > reach - command.gpa) return invalid("the VA space does not reach so far");
  return reservation_->addStretch(command.gpa, command.length);
}

/// Lets a stretch go, of which nothing is shown.
Failure VaSink::release(const Command& command) {
  const Reservation::Share stretch = reservation_->find(command.gpa, command.length);
  if (stretch == nullptr || stretch->start() != command.gpa || stretch->size() != command.length || command.gpa == 0) {
    return invalid("there is no such stretch");
  }
  if (watched_) watched_->forget(command.gpa, command.length);
  reservation_->removeStretch(command.gpa);
  return kDone;
}

Failure VaSink::map(const Command& command, const Targets& targets, HostRange& space) {
  std::shared_ptr<MemoryObject> object;
  if (const Failure failure = findShared(command, targets, object)) return failure;
  return exchange(command, space, object, [&](Use use) {
    return object->showShared(space, command.gpa, command.length, use, command.offset);
  });
}

Failure VaSink::unmap(const Command& command, const Targets& targets, HostRange& space) {
  return exchange(command, space, nullptr, [&](Use) {
    // What is taken is shared: should clearing fail, the range shows it still, and finds it when it is touched.
    if (Leavings* leavings = targets.leavings()) leavings->take(space, command.gpa, command.length);
    return space.clear(command.gpa, command.length);
  });
}

Failure VaSink::protect(const Command& command, const Targets& targets, HostRange& space) {
  std::shared_ptr<MemoryObject> object;
  if (const Failure failure = findObject(command, targets, object)) return failure;
  const Use use = useOf(command.access);
  if (const Failure failure = space.protect(command.gpa, command.length, use)) return failure;
  if (watched_) watched_->setUse(command.gpa, command.length, use);
  return kDone;
}

Failure VaSink::park(const Command& command, const Targets& targets, HostRange& space) {
  std::shared_ptr<MemoryObject> object;
  if (const Failure failure = findPrivate(command, targets, object)) return failure;
  HostRange& home = object->home;
  // First without access, so that nobody reads the empty pages or writes what is lost, before the range is clear.
  if (const Failure failure = space.protect(command.gpa, command.length, Use::kNothing)) return failure;
  if (watched_) {
    watched_->setUse(command.gpa, command.length, Use::kNothing);
    watched_->noteWritten(command.gpa, command.length);
  }
  const Failure stopped = object->moveHome(reservation_, command.gpa, command.offset, command.length);
  const uint64_t moved = stopped ? stopped.moved : command.length;
  if (watched_ && moved != 0) watched_->forget(command.gpa, moved);
  if (stopped) return halfDone(stopped, moved);
  const Failure failure = home.protect(command.offset, command.length, Use::kAll);
  return failure ? halfDone(failure, command.length) : kDone;
}

Failure VaSink::unpark(const Command& command, const Targets& targets, HostRange& space) {
  std::shared_ptr<MemoryObject> object;
  if (const Failure failure = findPrivate(command, targets, object)) return failure;
  HostRange& home = object->home;
  return exchange(command, space, object, [&](Use use) {
    // First with the access that it is to have, so that the guest finds either what was there or this.
    Failure failure = home.protect(command.offset, command.length, use);
    if (failure) {
      failure.isHalfDone = false;
    } else {
      failure = object->moveOut(command.offset, reservation_, command.gpa, command.length);
    }
    if (!failure || failure.moved == command.length) return failure;
    // What stays at home is as it was. Where that fails too, the next command for it sets it anyway.
    static_cast<void>(home.protect(command.offset + failure.moved, command.length - failure.moved, Use::kAll));
    return failure;
  });
}

/// Exchanges what a range shows, by `what(use)`, for `object`, or for nothing. Where dirty pages are tracked, what was
/// written up to then is noted, and from then on watched.
template <typename Exchange>
Failure VaSink::exchange(const Command& command, HostRange& space, const std::shared_ptr<MemoryObject>& object,
                         Exchange what) {
  const auto [gpa, length, use] = std::tuple(command.gpa, command.length, useOf(command.access));
  if (!watched_) return what(use);
  const bool isWatched = object != nullptr && WatchedSpace::canWatch(*object);
  const WriteHold hold;
  if (const Failure failure = watched_->holdWrites(gpa, length)) return failure;
  // Nobody writes before it is watched.
  const Failure failure = what(isWatched ? std::min(use, Use::kRead) : use);
  if (failure && !failure.isHalfDone) return watched_->letWrite(gpa, length) ? halfDone(failure) : failure;
  watched_->forget(gpa, length);
  if (failure || !isWatched) return failure;
  watched_->show(gpa, length, object, command.offset, use);
  if (use != Use::kAll) return kDone;
  const Failure refused = space.protect(gpa, length, use);
  return refused ? halfDone(refused, object->isShared ? 0 : length) : kDone;
}

Failure VaSink::limit(const Command& command) {
  // A limit may begin and end inside of a page, and be there before its stretch is.
  reservation_->limits().set({command.gpa, command.gpa + command.length, useOf(command.access)});
  return kDone;
}

uint32_t VaSink::secure(const Command& command, bool mayReplace) {
  if (command.length == 0 || command.length > UINT64_MAX - command.gpa) return abi::SECURED_CLOSED;
  // A limit may end inside of a page, which is closed as a whole.
  Command whole = command;
  whole.gpa = pageStart(command.gpa);
  whole.length = pageEnd(command.gpa + command.length - whole.gpa);
  if (whole.length > UINT64_MAX - whole.gpa) return abi::SECURED_CLOSED;
  WindowsShut(reservation_->windows(), whole.gpa, whole.length).setLasting(Use::kNothing);
  uint32_t secured = abi::SECURED_CLOSED;
  const Failure outside = eachStretch(whole, [&](const Command& part, HostRange& space) {
    secured = std::max(secured, close(space, part.gpa, part.length, mayReplace));
    return kDone;
  });
  return outside ? abi::SECURED_CLOSED : secured;
}

uint32_t VaSink::close(HostRange& space, uint64_t start, uint64_t length, bool mayReplace) {
  const bool isClear = mayReplace && !space.clear(start, length);
  if (isClear && watched_) watched_->forget(start, length);
  if (isClear) return abi::SECURED_CLOSED;
  if (space.protect(start, length, Use::kNothing)) return abi::SECURED_OPEN;
  if (watched_) watched_->setUse(start, length, Use::kNothing);
  return abi::SECURED_CLOSED;
}

void VaSink::setWatch(const std::shared_ptr<WriteWatch>& watch) {
  reservation_->setWatch(watch);
  watched_ = watch == nullptr ? nullptr : std::make_unique<WatchedSpace>(reservation_, watch);
}

Failure VaSink::watchShown(const Command& command, const Targets& targets) {
  const std::shared_ptr<MemoryObject>& object = targets.object(command.object);
  if (object == nullptr) return invalid("there is no such object");
  if (!object->contains(command.offset, command.length)) return invalid("the range is not inside the object");
  if (!isWholePages(command) || command.offset % kPageSize != 0) return invalid("the range is not whole pages");
  return eachStretch(command, [&](const Command& part, const HostRange&) {
    if (WatchedSpace::canWatch(*object)) {
      watched_->show(part.gpa, part.length, object, part.offset, useOf(part.access));
    }
    return kDone;
  });
}

void VaSink::noteWritten() {
  if (watched_) watched_->noteAll();
}

void VaSink::eachUnwatched(const std::function<void(const MemoryObject&)>& what) {
  if (watched_) watched_->eachUnwatched(what);
}

}  // namespace membacking
