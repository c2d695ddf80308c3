// Commands for memory slots: each is checked against the virtual machine and the VA space that the slot shows.

#include "sinks/slots.h"

namespace membacking {

Failure SlotSink::execute(const Command& command, const Targets& targets) {
  if (!isWholePages(command)) return invalid("the range is not whole pages");
  Reservation* space = targets.space(command.va);
  if (space == nullptr) return invalid("there is no VA space of this number");
  if (command.offset % kPageSize != 0) return invalid("the offset is not a whole page");
  const Reservation::Share stretch = space->find(command.offset, command.length);
  if (stretch == nullptr && command.op == abi::OP_SLOT_ADD) {
    return invalid("the range is not inside a stretch of its VA space");
  }
  if (command.slot >= vm_->slotLimit()) return invalid("the partition has no such slot");
  switch (command.op) {
    case abi::OP_SLOT_ADD:
      return addSlot(command, stretch);
    case abi::OP_SLOT_DELETE:
      return deleteSlot(command);
    default:
      return kNoSuchOperation;
  }
}

Failure SlotSink::addSlot(const Command& command, const Reservation::Share& stretch) {
  if (vm_->hasSlot(command.slot)) return invalid("the slot is in use");
  if ((command.access & abi::ACCESS_READ) == 0) return invalid("a slot is at least readable");
  const bool isReadOnly = (command.access & abi::ACCESS_WRITE) == 0;
  return vm_->addSlot(command.slot, command.gpa, command.length, stretch, command.offset, isReadOnly);
}

Failure SlotSink::deleteSlot(const Command& command) {
  return vm_->hasSlot(command.slot) ? vm_->deleteSlot(command.slot) : invalid("the slot is empty");
}

uint32_t SlotSink::secure(const Command& command, bool) {
  if (!vm_->hasSlot(command.slot) || !vm_->deleteSlot(command.slot)) return abi::SECURED_CLOSED;
  vm_->shutDown();
  return abi::SECURED_DOWN;
}

}  // namespace membacking
