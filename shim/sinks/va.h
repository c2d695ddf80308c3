// VA spaces as sinks: commands that map, protect, park and limit memory in a reservation.
#pragma once

#include <memory>
#include <utility>

#include "host/reservation.h"
#include "sinks/sink.h"

namespace membacking {

/// A VA space as sink.
class VaSink : public Sink {
 public:
  static constexpr uint32_t kKind = abi::SINK_VA;

  explicit VaSink(std::shared_ptr<Reservation> reservation) : Sink(kKind), reservation_(std::move(reservation)) {}

  Failure execute(const Command& command, const Targets& targets) override;
  uint32_t secure(const Command& command, bool mayReplace) override;

  const std::shared_ptr<Reservation>& reservation() const { return reservation_; }

 private:
  Failure map(const Command& command, const Targets& targets);
  Failure protect(const Command& command, const Targets& targets);
  Failure park(const Command& command, const Targets& targets);
  Failure unpark(const Command& command, const Targets& targets);
  Failure limit(const Command& command);

  Mapping& space() const { return reservation_->mapping(); }

  std::shared_ptr<Reservation> reservation_;
};

}  // namespace membacking
