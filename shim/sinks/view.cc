// Commands for views: each is checked against the VA space, then kept as a limit.

#include "sinks/view.h"

namespace membacking {

Failure ViewSink::execute(const Command& command, const Targets&) {
  if (command.length > UINT64_MAX - command.gpa) return invalid("the range is not inside its VA space");
  if (command.op != abi::OP_VIEW_LIMIT) return kNoSuchOperation;
  setLimit(command, useOf(command.access));
  return kDone;
}

uint32_t ViewSink::secure(const Command& command, bool) {
  if (command.length == 0 || command.length > UINT64_MAX - command.gpa) return abi::SECURED_CLOSED;
  setLimit(command, Use::kNothing);
  return abi::SECURED_CLOSED;
}

void ViewSink::setLimit(const Command& command, Use use) {
  const WindowsShut shut(view_->windows(), command.gpa, command.length, &view_->limits());
  view_->limits().set({command.gpa, command.gpa + command.length, use});
}

}  // namespace membacking
