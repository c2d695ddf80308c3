// VA spaces as sinks: commands that reserve stretches, and map, protect, park and limit memory in them.
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
  void eachUnwatched(const std::function<void(const MemoryObject&)>& what) override;

  Reservation* space() const override { return reservation_.get(); }

 private:
  Failure carryOut(const Command& command, const Targets& targets);
  Failure spend(const Command& command) const;
  Failure reserve(const Command& command);
  Failure release(const Command& command);
  Failure limit(const Command& command);
  template <typename Do>
  Failure eachStretch(const Command& command, Do what) const;

  // Commands whose range lies in one stretch, `space`.

  Failure change(const Command& command, const Targets& targets, HostRange& space);
  Failure map(const Command& command, const Targets& targets, HostRange& space);
  Failure unmap(const Command& command, const Targets& targets, HostRange& space);
  Failure protect(const Command& command, const Targets& targets, HostRange& space);
  Failure park(const Command& command, const Targets& targets, HostRange& space);
  Failure unpark(const Command& command, const Targets& targets, HostRange& space);
  template <typename Exchange>
  Failure exchange(const Command& command, HostRange& space, const std::shared_ptr<MemoryObject>& object,
                   Exchange what);
  uint32_t close(HostRange& space, uint64_t start, uint64_t length, bool mayReplace);

  std::shared_ptr<Reservation> reservation_;
  /// Null while nobody tracks dirty pages.
  std::unique_ptr<WatchedSpace> watched_;
};

}  // namespace membacking
