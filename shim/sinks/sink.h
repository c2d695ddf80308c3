// Sinks: consumers of commands. Each kind has its files here and a row in napi/sink_kinds.cc.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "host/event_fd.h"
#include "host/leavings.h"
#include "host/object.h"
#include "host/write_watch.h"
#include "sinks/command.h"

namespace membacking {

class Targets;

/// One sink. Its class has a `static constexpr uint32_t kKind`, which is SINK_*.
class Sink {
 public:
  explicit Sink(uint32_t kind) : kind(kind) {}
  virtual ~Sink() = default;
  Sink(const Sink&) = delete;

  /// Carries out a command of this kind, whose range is not empty, and whose access exists; refuses one that is wrong
  /// in another way.
  virtual Failure execute(const Command& command, const Targets& targets) = 0;
  /// Takes away all access that a command which failed has left. The command may be any bytes. Returns SECURED_*.
  /// `mayReplace`: no private pages are in the range.
  virtual uint32_t secure(const Command& command, bool mayReplace) = 0;
  /// Ends for good the use that a partition behind the sink makes of memory.
  virtual void shutDown() {}

  // Kinds that pass commands on to another process, which carries them out meanwhile.

  /// Sends off what was executed. `isTakingBack`: it takes back what may not have been confirmed.
  virtual void send(bool) {}
  /// Waits until all of that is done. Fails where it is not, and `who` becomes the name of who has not done it. What
  /// takes a change back does not fail: whoever does not do it is cut off.
  virtual Failure confirm(bool, std::string&) { return kDone; }

  // Tracking of dirty pages, for kinds that show memory to this process.

  /// Watches from now on what comes to be shown; null: nothing any more. What is shown already comes by watchShown().
  virtual void setWatch(const std::shared_ptr<WriteWatch>&) {}
  /// Watches what is shown already: a command that would map it. Any bytes may stand in it.
  virtual Failure watchShown(const Command&, const Targets&) { return invalid("the sink shows nothing"); }
  /// Notes at its object each page that was written since it was asked for last.
  virtual void noteWritten() {}
  /// Calls `what(object)` for each object of which the kernel does not watch all that is shown: it counts as written.
  virtual void eachUnwatched(const std::function<void(const MemoryObject&)>&) {}

  /// VA space of this process that the sink is; null for other sinks.
  virtual Reservation* space() const { return nullptr; }

  const uint32_t kind;
};

/// Sinks, memory objects and eventfds by their ids in records.
class Targets {
 public:
  /// Null takes the meaning of the id away.
  void setSink(uint32_t id, std::shared_ptr<Sink> sink) { set(sinks_, id, std::move(sink)); }
  void setObject(uint32_t id, std::shared_ptr<MemoryObject> object) { set(objects_, id, std::move(object)); }

  void setEvent(uint32_t id, std::shared_ptr<EventFd> event) { set(events_, id, std::move(event)); }

  /// Keeps pages that VA spaces do not show any more, instead of having them freed at once; null: no longer.
  void setLeavings(std::shared_ptr<Leavings> leavings) { leavings_ = std::move(leavings); }
  /// Null where pages are freed at once.
  Leavings* leavings() const { return leavings_.get(); }

  /// Null where the id means nothing.
  Sink* sink(uint32_t id) const { return get(sinks_, id).get(); }
  const std::shared_ptr<MemoryObject>& object(uint32_t id) const { return get(objects_, id); }
  const std::shared_ptr<EventFd>& event(uint32_t id) const { return get(events_, id); }

  /// Calls `what(sink)` for every sink.
  template <typename Do>
  void eachSink(Do what) const {
    for (const auto& sink : sinks_) {
      if (sink != nullptr) what(*sink);
    }
  }
  /// Calls `what(id, object)` for every object, in order of ids.
  template <typename Do>
  void eachObject(Do what) const {
    for (uint32_t id = 0; id < objects_.size(); id++) {
      if (objects_[id] != nullptr) what(id, *objects_[id]);
    }
  }

  /// VA space of this process by the id of its sink; null where the id means none.
  Reservation* space(uint32_t id) const {
    const Sink* found = sink(id);
    return found == nullptr ? nullptr : found->space();
  }

 private:
  template <typename Thing>
  using List = std::vector<std::shared_ptr<Thing>>;

  template <typename Thing>
  static void set(List<Thing>& list, uint32_t id, std::shared_ptr<Thing> thing) {
    if (id >= list.size()) list.resize(id + 1);
    list[id] = std::move(thing);
  }

  template <typename Thing>
  static const std::shared_ptr<Thing>& get(const List<Thing>& list, uint32_t id) {
    static const std::shared_ptr<Thing> nothing;
    return id < list.size() ? list[id] : nothing;
  }

  List<Sink> sinks_;
  List<MemoryObject> objects_;
  List<EventFd> events_;
  std::shared_ptr<Leavings> leavings_;
};

}  // namespace membacking
