// Plans, record by record. Rules for all commands are checked here, those of a kind by its sink.

#include "executor.h"

#include <cstring>
#include <utility>

#include "abi.h"
#include "host/invariant.h"

namespace membacking {

static_assert(kPageSize == abi::PAGE_SIZE);

namespace {

/// Facts about a failure that whoever takes the plan back relies on.
void checkOutcome(const Failure& failure, const Command& command) {
  INVARIANT(!failure || failure.syscall != nullptr);
  INVARIANT(failure.isHalfDone ? static_cast<bool>(failure) : failure.moved == 0);
  INVARIANT(failure.moved <= command.length && failure.moved % kPageSize == 0);
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
  if ((command.access & ~static_cast<uint32_t>(abi::ACCESS_ALL)) != 0) return invalid("there is no such access");
  Sink* sink = targets_.sink(command.sink);
  if (sink == nullptr || sink->kind != command.op >> abi::OP_KIND_SHIFT) return kNoSuchOperation;
  const Failure failure = sink->execute(command, targets_);
  checkOutcome(failure, command);
  return failure;
}

std::string Executor::confirm(bool isTakingBack, Failure& failure) {
  targets_.eachSink([&](Sink& sink) { sink.send(isTakingBack); });
  std::string first;
  targets_.eachSink([&](Sink& sink) {
    std::string who;
    const Failure refused = sink.confirm(isTakingBack, who);
    if (!refused || failure) return;
    failure = refused;
    first = who;
  });
  return first;
}

uint32_t Executor::secure(const uint8_t* record, bool mayReplace) {
  Command command;
  // SAFETY: the caller has checked that a record lies in its buffer.
  std::memcpy(&command, record, sizeof command);
  Sink* sink = targets_.sink(command.sink);
  return sink == nullptr ? abi::SECURED_CLOSED : sink->secure(command, mayReplace);
}

void Executor::setSink(uint32_t id, std::shared_ptr<Sink> sink) {
  if (sink != nullptr) trackers_.sinkCame(*sink);
  targets_.setSink(id, std::move(sink));
}

void Executor::setObject(uint32_t id, std::shared_ptr<MemoryObject> object) {
  if (const auto& before = targets_.object(id)) trackers_.objectGoes(*before);
  if (object != nullptr) trackers_.objectCame(*object);
  targets_.setObject(id, std::move(object));
}

void Executor::shutDown(uint32_t sink) {
  if (Sink* found = targets_.sink(sink)) found->shutDown();
}

}  // namespace membacking
