// Trackers of dirty pages: those of one executor's objects, whatever its VA spaces show of them.
#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <vector>

#include "host/write_watch.h"
#include "sinks/sink.h"

namespace membacking {

/// Trackers of one executor. While there is one, its VA spaces are watched for writes.
class Trackers {
 public:
  /// Dirty pages of one object, upwards.
  struct Dirty {
    uint32_t object;
    std::vector<Stretch> pages;
  };

  explicit Trackers(Targets& targets) : targets_(targets) {}
  ~Trackers();
  Trackers(const Trackers&) = delete;

  /// Begins to track: nothing is dirty. `shown`: what VA spaces show now, as commands that would map it. Its number,
  /// which no other tracker of the process has, is `tracker`. Fails where the kernel cannot, and with EBUSY where it is
  /// watched by another method; it has then no effect.
  Failure begin(const std::vector<Command>& shown, WatchMethod method, uint32_t& tracker);
  /// Ends a tracker, if there is such a one.
  void end(uint32_t tracker);
  /// Finds what has become dirty since a tracker was asked for last, by object and offset. Without `isLooking`: as far
  /// as that was found already, when another tracker began or was asked for.
  Failure collect(uint32_t tracker, bool isLooking, std::vector<Dirty>& dirty);
  /// Finds the objects of which the kernel does not watch all that is shown: that counts as written each time.
  std::vector<uint32_t> unwatched() const;

  // Sinks and objects that come and go.

  void sinkCame(Sink& sink);
  void objectCame(MemoryObject& object);
  void objectGoes(MemoryObject& object);

 private:
  Failure watch(const std::vector<Command>& shown, WatchMethod method);
  void unwatch();

  Targets& targets_;
  /// Null while there are no trackers.
  std::shared_ptr<WriteWatch> watch_;
  std::set<uint32_t> trackers_;
};

}  // namespace membacking
