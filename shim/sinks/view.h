// Views as sinks: commands that say how much accesses through a view may do.
#pragma once

#include <memory>
#include <utility>

#include "host/reservation.h"
#include "sinks/sink.h"

namespace membacking {

/// A view of a VA space as sink.
class ViewSink : public Sink {
 public:
  static constexpr uint32_t kKind = abi::SINK_VIEW;

  explicit ViewSink(std::shared_ptr<Reservation> view) : Sink(kKind), view_(std::move(view)) {}

  Failure execute(const Command& command, const Targets& targets) override;
  uint32_t secure(const Command& command, bool mayReplace) override;

 private:
  void setLimit(const Command& command, Use use);

  std::shared_ptr<Reservation> view_;
};

}  // namespace membacking
