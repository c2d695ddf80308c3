// Buffers that V8 does not count are those of backing stores with V8's own empty deleter.

#include "napi/uncounted_buffer.h"

#include <cstring>
#include <memory>
#include <utility>

#define OF_V8 __attribute__((weak, visibility("default")))

// The part of V8's API that Node-API has no words for, as v8.h has declared it since V8 8. The symbols are weak: null
// in a runtime that lacks them.
namespace v8 {

class Isolate {
 public:
  OF_V8 static Isolate* GetCurrent();
};

class BackingStore {
 public:
  OF_V8 ~BackingStore();
  OF_V8 static void EmptyDeleter(void* data, size_t length, void* context);
};

/// A handle is one pointer, as a napi_value is.
template <typename Value>
struct Local {
  Value* slot;
};

class ArrayBuffer {
 public:
  OF_V8 static std::unique_ptr<BackingStore> NewBackingStore(void* data, size_t length,
                                                             void (*deleter)(void*, size_t, void*), void* context);
  OF_V8 static Local<ArrayBuffer> New(Isolate* isolate, std::shared_ptr<BackingStore> store);
  OF_V8 std::shared_ptr<BackingStore> GetBackingStore();
};

}  // namespace v8

namespace membacking {

/// Whether buffers may show memory that is not the runtime's own: where they may not, V8 ends the process.
static bool allowsForeignBuffers(napi_env env) {
  static uint8_t byte;
  napi_value buffer = nullptr;
  return napi_create_external_arraybuffer(env, &byte, 1, [](napi_env, void*, void*) {}, nullptr, &buffer) == napi_ok;
}

bool hasUncountedBuffers(Napi::Env env) {
  static const bool has = v8::Isolate::GetCurrent != nullptr && v8::BackingStore::EmptyDeleter != nullptr &&
                          v8::ArrayBuffer::NewBackingStore != nullptr && v8::ArrayBuffer::New != nullptr &&
                          allowsForeignBuffers(env);
  return has;
}

static napi_value newBuffer(std::shared_ptr<v8::BackingStore> store) {
  static_assert(sizeof(v8::Local<v8::ArrayBuffer>) == sizeof(napi_value));
  const v8::Local<v8::ArrayBuffer> buffer = v8::ArrayBuffer::New(v8::Isolate::GetCurrent(), std::move(store));
  napi_value value = nullptr;
  // SAFETY: both are one pointer (above).
  std::memcpy(&value, &buffer, sizeof value);
  return value;
}

napi_value newUncountedBuffer(void* data, size_t length) {
  return newBuffer(v8::ArrayBuffer::NewBackingStore(data, length, v8::BackingStore::EmptyDeleter, nullptr));
}

Napi::ArrayBuffer moveBuffer(Napi::ArrayBuffer buffer) {
  // SAFETY: a napi_value is the pointer that a handle is, through which V8 calls its methods.
  auto* handle = reinterpret_cast<v8::ArrayBuffer*>(static_cast<napi_value>(buffer));
  std::shared_ptr<v8::BackingStore> store = handle->GetBackingStore();
  buffer.Detach();
  return {buffer.Env(), newBuffer(std::move(store))};
}

}  // namespace membacking
