// VA spaces as sinks: commands that map, protect, park and limit memory in a reservation.
#pragma once

#include <memory>
#include <utility>

#include "host/reservation.h"
#include "sinks/sink.h"
#include "sinks/watched_space.h"

namespace membacking {

/// A VA space as sink.
class VaSink : public Sink {
 public:
  static constexpr uint32_t kKind = abi::SINK_VA;

  explicit VaSink(std::shared_ptr<Reservation> reservation) : Sink(kKind), reservation_(std::move(reservation)) {}

  Failure execute(const Command& command, const Targets& targets) override;
  uint32_t secure(const Command& command, bool mayReplace) override;
  void setWatch(const std::shared_ptr<WriteWatch>& watch) override;
  Failure watchShown(const Command& command, const Targets& targets) override;
  void noteWritten() override;

  const std::shared_ptr<Reservation>& reservation() const { return reservation_; }

 private:
  Failure map(const Command& command, const Targets& targets);
  Failure unmap(const Command& command);
  Failure protect(const Command& command, const Targets& targets);
  Failure park(const Command& command, const Targets& targets);
  Failure unpark(const Command& command, const Targets& targets);
  Failure limit(const Command& command);
  template <typename Exchange>
  Failure exchange(const Command& command, const std::shared_ptr<MemoryObject>& object, Exchange what);

  Mapping& space() const { return reservation_->mapping(); }

  std::shared_ptr<Reservation> reservation_;
  /// Null while nobody tracks dirty pages.
  std::unique_ptr<WatchedSpace> watched_;
};

}  // namespace membacking
