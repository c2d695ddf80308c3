// Executors in JavaScript: their tables, and plans straight from the core's memory.
#pragma once

#include <napi.h>

#include <optional>

#include "executor.h"
#include "host/headroom.h"
#include "napi/handle.h"

namespace membacking {

/// Executor in JavaScript.
class ExecutorHandle : public Handle<ExecutorHandle, Executor> {
 public:
  static constexpr napi_type_tag kTag{0x6d656d6261636b69, 0x6578656375746f72};
  static constexpr const char* kName = "Executor";

  explicit ExecutorHandle(const Napi::CallbackInfo& info);
  static void define(Napi::Env env, Napi::Object exports);

 private:
  static Napi::Value create(const Napi::CallbackInfo& info);

  void setSink(const Napi::CallbackInfo& info);
  void clearSink(const Napi::CallbackInfo& info);
  void setMapper(const Napi::CallbackInfo& info);
  void setObject(const Napi::CallbackInfo& info);
  void clearObject(const Napi::CallbackInfo& info);
  void setEvent(const Napi::CallbackInfo& info);
  void clearEvent(const Napi::CallbackInfo& info);
  Napi::Value run(const Napi::CallbackInfo& info);
  Napi::Value unwind(const Napi::CallbackInfo& info);
  Napi::Value carryOut(const Napi::CallbackInfo& info);
  void giveBack(const Napi::CallbackInfo& info);
  void setLeavings(const Napi::CallbackInfo& info);
  void clearLeavings(const Napi::CallbackInfo& info);
  Napi::Value confirm(const Napi::CallbackInfo& info);
  Napi::Value secure(const Napi::CallbackInfo& info);
  void shutDown(const Napi::CallbackInfo& info);
  Napi::Value failure(const Napi::CallbackInfo& info);
  Napi::Value answer(const Napi::CallbackInfo& info);
  Napi::Value moved(const Napi::CallbackInfo& info);
  Napi::Value track(const Napi::CallbackInfo& info);
  Napi::Value collectDirty(const Napi::CallbackInfo& info);
  Napi::Value unwatched(const Napi::CallbackInfo& info);
  void untrack(const Napi::CallbackInfo& info);
  void close(const Napi::CallbackInfo& info);

  /// Outcome of the last plan.
  Failure failure_;
  /// Headroom from a plan that ran out of mappings to the end of the one that takes it back: JavaScript runs in
  /// between.
  std::optional<Headroom> headroom_;
};

}  // namespace membacking
