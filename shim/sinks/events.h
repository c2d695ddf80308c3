// Events of a partition as a sink: commands that let writes of its guest signal an eventfd, or be kept.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "kvm/vm.h"
#include "sinks/sink.h"

namespace membacking {

/// Events of a partition as sink. What is left goes with it.
class EventSink : public Sink {
 public:
  static constexpr uint32_t kKind = abi::SINK_EVENTS;

  explicit EventSink(std::shared_ptr<Vm> vm) : Sink(kKind), vm_(std::move(vm)) {}
  ~EventSink() override;

  Failure execute(const Command& command, const Targets& targets) override;
  uint32_t secure(const Command& command, bool mayReplace) override;

 private:
  struct Registered {
    VmEvent event;
    uint32_t id;
    /// Null where writes are kept.
    std::shared_ptr<EventFd> eventFd;
  };

  Failure add(const Command& command, const Targets& targets);
  Failure remove(const Command& command);

  std::shared_ptr<Vm> vm_;
  std::vector<Registered> registered_;
};

}  // namespace membacking
