// Commands for events: each is checked, and remembered as long as the virtual machine has it.

#include "sinks/events.h"

#include <algorithm>

namespace membacking {

/// Event of a command, but for its eventfd.
static VmEvent eventOf(const Command& command) {
  VmEvent event = {};
  event.gpa = command.gpa;
  event.length = command.slot & abi::EVENT_ANY_LENGTH ? 0 : command.length;
  event.hasMatch = (command.slot & abi::EVENT_MATCH) != 0;
  event.match = command.match;
  event.fd = -1;
  return event;
}

EventSink::~EventSink() {
  // Nothing can be done about what KVM does not take away: it rings for nobody.
  for (const Registered& each : registered_) static_cast<void>(vm_->removeEvent(each.event));
}

Failure EventSink::execute(const Command& command, const Targets& targets) {
  if (command.gpa + (command.length - 1) < command.gpa) return invalid("the range reaches past the last address");
  switch (command.op) {
    case abi::OP_EVENT_ADD:
      return add(command, targets);
    case abi::OP_EVENT_REMOVE:
      return remove(command);
    default:
      return kNoSuchOperation;
  }
}

Failure EventSink::add(const Command& command, const Targets& targets) {
  Registered added = {eventOf(command), command.event, nullptr};
  if ((command.slot & abi::EVENT_COALESCED) == 0) {
    added.eventFd = targets.event(command.event);
    if (added.eventFd == nullptr) return invalid("there is no such event");
    added.event.fd = added.eventFd->fd();
  }
  if (const Failure failure = vm_->addEvent(added.event)) return failure;
  registered_.push_back(std::move(added));
  return kDone;
}

Failure EventSink::remove(const Command& command) {
  const auto found = std::find_if(registered_.begin(), registered_.end(), [&](const Registered& each) {
    return each.id == command.event && each.event.gpa == command.gpa;
  });
  if (found == registered_.end()) return invalid("the event is not there");
  if (const Failure failure = vm_->removeEvent(found->event)) return failure;
  registered_.erase(found);
  return kDone;
}

uint32_t EventSink::secure(const Command& command, bool) {
  const uint64_t first = pageStart(command.gpa);
  const uint64_t last = pageLast(command.gpa + (command.length - 1));
  const auto isThere = [&](const Registered& each) {
    return each.event.gpa <= last && each.event.gpa + (std::max<uint64_t>(each.event.length, 1) - 1) >= first;
  };
  for (const Registered& each : registered_) {
    if (isThere(each)) static_cast<void>(vm_->removeEvent(each.event));
  }
  registered_.erase(std::remove_if(registered_.begin(), registered_.end(), isThere), registered_.end());
  return abi::SECURED_CLOSED;
}

}  // namespace membacking
