// Commands for views: each is checked against the VA space, then kept as a limit.

#include "sinks/view.h"

namespace membacking {

Failure ViewSink::execute(const Command& command, const Targets&) {
  if (command.length > UINT64_MAX - command.gpa) return invalid("the range is not inside its VA space");
  if (command.op != abi::OP_VIEW_LIMIT) return invalid("the sink has no such operation");
  view_->limits().set({command.gpa, command.gpa + command.length, useOf(command.access)});
  return kDone;
}

uint32_t ViewSink::secure(const Command& command, bool) {
  if (command.length == 0 || command.length > UINT64_MAX - command.gpa) return abi::SECURED_CLOSED;
  view_->limits().set({command.gpa, command.gpa + command.length, Use::kNothing});
  return abi::SECURED_CLOSED;
}

}  // namespace membacking
