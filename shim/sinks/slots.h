// Partitions as sinks: commands that give a virtual machine memory slots and take them away.
#pragma once

#include <memory>
#include <utility>

#include "kvm/vm.h"
#include "sinks/sink.h"

namespace membacking {

/// A partition as sink.
class SlotSink : public Sink {
 public:
  static constexpr uint32_t kKind = abi::SINK_PARTITION;

  explicit SlotSink(std::shared_ptr<Vm> vm) : Sink(kKind), vm_(std::move(vm)) {}

  Failure execute(const Command& command, const Targets& targets) override;
  uint32_t secure(const Command& command, bool mayReplace) override;
  void shutDown() override { vm_->shutDown(); }

 private:
  Failure addSlot(const Command& command, const Reservation::Share& stretch);
  Failure deleteSlot(const Command& command);

  std::shared_ptr<Vm> vm_;
};

}  // namespace membacking
