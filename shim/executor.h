// The executor: reads plans and does what they say, in one call, in order, until the first failure. It knows ranges,
// descriptors and slots; it knows no regions and takes no decisions. Any bytes may be given to it: a record is copied,
// then checked whole, then carried out.
#pragma once

#include <cstdint>

#include "sinks/sink.h"

namespace membacking {

class Executor {
 public:
  /// Carries out `count` records from `records` on. Returns how many were done; `failure` says why not all.
  uint32_t run(const uint8_t* records, uint32_t count, Failure& failure);

  /// Makes sure that nobody reaches what a command that failed has left: no access in the VA space, no memory slot.
  /// Returns SECURED_*. `mayReplace`: no private pages are in the range.
  uint32_t secure(const uint8_t* record, bool mayReplace);
  /// Shuts down the partition of an attachment.
  void shutDown(uint32_t sink);

  /// Meaning of the ids in records.
  Targets& targets() { return targets_; }

 private:
  Failure execute(const Command& command);

  Targets targets_;
};

}  // namespace membacking
