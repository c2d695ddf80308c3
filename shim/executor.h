// The executor: reads plans and does what they say, in one call, in order, until the first failure. It knows ranges,
// descriptors and slots; it knows no regions and takes no decisions. Any bytes may be given to it: a record is copied,
// then checked whole, then carried out.
#pragma once

#include <napi.h>

#include <optional>

#include "handle.h"
#include "host/headroom.h"
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

/// Executor in JavaScript.
class ExecutorHandle : public Handle<ExecutorHandle, Executor> {
 public:
  static constexpr napi_type_tag kTag{0x6d656d6261636b69, 0x6578656375746f72};
  static constexpr const char* kName = "Executor";

  explicit ExecutorHandle(const Napi::CallbackInfo& info);
  static void define(Napi::Env env, Napi::Object exports);

 private:
  static Napi::Value create(const Napi::CallbackInfo& info);

  template <typename Kind, typename ItsHandle>
  void setSink(const Napi::CallbackInfo& info);
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
