// Sinks: consumers of commands. Each kind has its files here and a row in napi/sink_kinds.cc.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "host/object.h"
#include "sinks/command.h"

namespace membacking {

class Targets;

/// One sink. Its class has a `static constexpr uint32_t kKind`, which is SINK_*.
class Sink {
 public:
  explicit Sink(uint32_t kind) : kind(kind) {}
  virtual ~Sink() = default;
  Sink(const Sink&) = delete;

  /// Carries out a command of this kind, whose range is whole pages and not empty, and whose access exists; refuses one
  /// that is wrong in another way.
  virtual Failure execute(const Command& command, const Targets& targets) = 0;
  /// Takes away all access that a command which failed has left. The command may be any bytes. Returns SECURED_*.
  /// `mayReplace`: no private pages are in the range.
  virtual uint32_t secure(const Command& command, bool mayReplace) = 0;
  /// Ends for good the use that a partition behind the sink makes of memory.
  virtual void shutDown() {}

  const uint32_t kind;
};

/// Sinks and memory objects by their ids in records.
class Targets {
 public:
  /// Null takes the meaning of the id away.
  void setSink(uint32_t id, std::shared_ptr<Sink> sink) { set(sinks_, id, std::move(sink)); }
  void setObject(uint32_t id, std::shared_ptr<MemoryObject> object) { set(objects_, id, std::move(object)); }

  /// Null where the id means nothing.
  Sink* sink(uint32_t id) const { return get(sinks_, id); }
  MemoryObject* object(uint32_t id) const { return get(objects_, id); }

  /// Null where the id means no sink of the kind.
  template <typename Kind>
  Kind* sinkOf(uint32_t id) const {
    Sink* found = sink(id);
    return found != nullptr && found->kind == Kind::kKind ? static_cast<Kind*>(found) : nullptr;
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
  static Thing* get(const List<Thing>& list, uint32_t id) {
    return id < list.size() ? list[id].get() : nullptr;
  }

  List<Sink> sinks_;
  List<MemoryObject> objects_;
};

}  // namespace membacking
