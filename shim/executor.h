// The executor: reads plans and does what they say, in one call, in order, until the first failure. It knows ranges,
// descriptors and slots; it knows no regions and takes no decisions. Any bytes may be given to it: a record is copied,
// then checked whole, then carried out.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "sinks/sink.h"
#include "trackers.h"

namespace membacking {

/// An executor with the sinks, objects and eventfds that its plans name by numbers.
class Executor {
 public:
  /// Carries out `count` records from `records` on. Returns the number of those that were done; `failure` says why the
  /// next one was not.
  uint32_t run(const uint8_t* records, uint32_t count, Failure& failure);

  /// Waits until other processes have done what was passed on to them by run(). `failure` says why not, and the result
  /// is the name of who has not; empty otherwise. `isTakingBack`: who does not take back what was done is cut off.
  std::string confirm(bool isTakingBack, Failure& failure);

  /// Takes away all access to what a command that failed has left: in the VA space, or by a memory slot. Returns
  /// SECURED_*. `mayReplace`: no private pages are in the range.
  uint32_t secure(const uint8_t* record, bool mayReplace);
  /// Shuts down the user behind a sink: of an attachment, the partition.
  void shutDown(uint32_t sink);

  // Sinks, objects and eventfds by the numbers in records. Null takes the meaning of a number away.

  void setSink(uint32_t id, std::shared_ptr<Sink> sink);
  void setObject(uint32_t id, std::shared_ptr<MemoryObject> object);
  void setEvent(uint32_t id, std::shared_ptr<EventFd> event) { targets_.setEvent(id, std::move(event)); }

  /// Keeps there what plans take out of VA spaces; null: no longer.
  void setLeavings(std::shared_ptr<Leavings> leavings) { targets_.setLeavings(std::move(leavings)); }

  /// Trackers of its objects' dirty pages.
  Trackers& trackers() { return trackers_; }

 private:
  Failure execute(const Command& command);

  Targets targets_;
  Trackers trackers_{targets_};
};

}  // namespace membacking
