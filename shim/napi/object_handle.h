// Memory objects in JavaScript.
#pragma once

#include <napi.h>

#include "host/object.h"
#include "napi/handle.h"

namespace membacking {

/// MemoryObject in JavaScript.
class ObjectHandle : public Handle<ObjectHandle, MemoryObject> {
 public:
  static constexpr napi_type_tag kTag{0x6d656d6261636b69, 0x6261636b696e6721};
  static constexpr const char* kName = "MemoryObject";

  using Handle::Handle;
  static void define(Napi::Env env, Napi::Object exports);

 private:
  static Napi::Value memfd(const Napi::CallbackInfo& info);
  static Napi::Value fromFd(const Napi::CallbackInfo& info);
  static void checkAccess(const Napi::CallbackInfo& info);
  static Napi::Value isSameOpenFile(const Napi::CallbackInfo& info);
  static Napi::Value privateMemory(const Napi::CallbackInfo& info);
  static Napi::Value privateFile(const Napi::CallbackInfo& info);
  static Napi::Value lazyMemory(const Napi::CallbackInfo& info);

  Napi::Value kind(const Napi::CallbackInfo& info);
  Napi::Value size(const Napi::CallbackInfo& info);
  Napi::Value writable(const Napi::CallbackInfo& info);
  Napi::Value granularity(const Napi::CallbackInfo& info);
  Napi::Value fd(const Napi::CallbackInfo& info);
  Napi::Value allocatedBytes(const Napi::CallbackInfo& info);
  Napi::Value isShrinkable(const Napi::CallbackInfo& info);
  void leave(const Napi::CallbackInfo& info);
  Napi::Value discard(const Napi::CallbackInfo& info);
  Napi::Value discardLater(const Napi::CallbackInfo& info);
  Napi::Value populate(const Napi::CallbackInfo& info);
  Napi::Value fetch(const Napi::CallbackInfo& info);
  void fetchNow(const Napi::CallbackInfo& info);
  void drop(const Napi::CallbackInfo& info);
  Napi::Value block(const Napi::CallbackInfo& info);
  Napi::Value whyMissing(const Napi::CallbackInfo& info);
  void setNumaNode(const Napi::CallbackInfo& info);
  Napi::Value adviseHugePages(const Napi::CallbackInfo& info);
  void pin(const Napi::CallbackInfo& info);
  template <bool isWrite>
  Napi::Value copy(const Napi::CallbackInfo& info);
  template <Failure (MemoryObject::*find)(std::vector<Stretch>&) const>
  Napi::Value stretches(const Napi::CallbackInfo& info);
  void close(const Napi::CallbackInfo& info);
};

}  // namespace membacking
