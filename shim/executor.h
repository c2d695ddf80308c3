// Reads plans and does what they say: one call, in order, until the first failure. It knows ranges, descriptors and
// slots; it knows no regions and takes no decisions. Any bytes may be given to it: a record is copied, then
// checked whole, then carried out.
#pragma once

#include <napi.h>

#include <memory>
#include <optional>
#include <vector>

#include "host/backing.h"
#include "handle.h"
#include "host/headroom.h"
#include "kvm/kvm.h"
#include "host/reservation.h"

namespace membacking {

/// One record of a plan, as assembly/abi.ts draws it. `region` and its offset are for people.
struct Command {
  uint32_t op;
  uint32_t sink;
  uint64_t gpa;
  uint64_t length;
  uint64_t offset;
  uint32_t backing;
  uint32_t access;
  uint32_t slot;
  uint32_t region;
  uint64_t offsetInRegion;
  uint64_t zero;
};

class Executor {
 public:
  /// Carries out `count` records from `records` on. Returns how many were done; `failure` says why not all.
  uint32_t run(const uint8_t* records, uint32_t count, Failure& failure);

  /// Makes sure that nobody reaches what a command that failed has left: no access in the VA space, no memory slot. SECURED_*
  /// says whether that is so. `mayReplace`: no private pages are in the range.
  uint32_t secure(const uint8_t* record, bool mayReplace);
  /// Shuts down the partition of an attachment.
  void shutDown(uint32_t sink);

  // What the ids in records mean. Null takes the meaning away.
  void setVaSpace(uint32_t sink, std::shared_ptr<Reservation> reservation);
  void setPartition(uint32_t sink, std::shared_ptr<Vm> vm);
  void setObject(uint32_t object, std::shared_ptr<Backing> backing);

 private:
  struct Sink {
    std::shared_ptr<Reservation> vaSpace;
    std::shared_ptr<Vm> partition;
  };

  Failure execute(const Command& command);
  Failure executeVa(const Command& command);
  Failure executeSlot(const Command& command);
  Failure mapShared(const Command& command, Mapping& space);
  Failure park(const Command& command, Mapping& space);
  Failure unpark(const Command& command, Mapping& space);
  Failure findPrivate(const Command& command, Backing*& backing) const;

  const std::shared_ptr<Reservation>* vaSpace(uint32_t sink) const;
  Vm* partition(uint32_t sink) const;
  Backing* object(uint32_t id) const;

  /// By sink id. A sink is one of the two, or neither.
  std::vector<Sink> sinks_;
  /// By object id.
  std::vector<std::shared_ptr<Backing>> objects_;
};

/// Executor in JavaScript.
class ExecutorHandle : public Handle<ExecutorHandle, Executor> {
 public:
  static constexpr napi_type_tag kTag{0x6d656d6261636b69, 0x6578656375746f72};
  static constexpr const char* kName = "Executor";

  explicit ExecutorHandle(const Napi::CallbackInfo& info);
  static void define(Napi::Env env, Napi::Object exports);

 private:
  static Napi::Value create(const Napi::CallbackInfo& info);

  void setVaSpace(const Napi::CallbackInfo& info);
  void setPartition(const Napi::CallbackInfo& info);
  void clearSink(const Napi::CallbackInfo& info);
  void setObject(const Napi::CallbackInfo& info);
  void clearObject(const Napi::CallbackInfo& info);
  Napi::Value run(const Napi::CallbackInfo& info);
  Napi::Value unwind(const Napi::CallbackInfo& info);
  Napi::Value carryOut(const Napi::CallbackInfo& info);
  Napi::Value secure(const Napi::CallbackInfo& info);
  void shutDown(const Napi::CallbackInfo& info);
  Napi::Value failure(const Napi::CallbackInfo& info);
  Napi::Value answer(const Napi::CallbackInfo& info);
  Napi::Value moved(const Napi::CallbackInfo& info);
  void close(const Napi::CallbackInfo& info);

  Failure failure_;
  /// From a plan that ran out of mappings to the end of what takes it back: JavaScript runs in between.
  std::optional<Headroom> headroom_;
};

}  // namespace membacking
