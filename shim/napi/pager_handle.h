// Pagers in JavaScript.
#pragma once

#include <napi.h>

#include <memory>

#include "host/pager.h"
#include "napi/handle.h"
#include "napi/notice.h"

namespace membacking {

/// Pager in JavaScript. It works on as long as there is memory whose pages it brings, also when this is closed.
class PagerHandle : public Handle<PagerHandle, Pager> {
 public:
  static constexpr napi_type_tag kTag{0x6d656d6261636b69, 0x7061676572206e67};
  static constexpr const char* kName = "Pager";

  using Handle::Handle;
  static void define(Napi::Env env, Napi::Object exports);

 private:
  static Napi::Value create(const Napi::CallbackInfo& info);

  void listen(const Napi::CallbackInfo& info);
  void beginSource(const Napi::CallbackInfo& info);
  Napi::Value takeLosses(const Napi::CallbackInfo& info);
  Napi::Value takeAsked(const Napi::CallbackInfo& info);
  void supply(const Napi::CallbackInfo& info);
  void expect(const Napi::CallbackInfo& info);
  void refuse(const Napi::CallbackInfo& info);
  void bringAhead(const Napi::CallbackInfo& info);
  Napi::Value wanted(const Napi::CallbackInfo& info);
  void close(const Napi::CallbackInfo& info);

  /// Tells JavaScript that there is news; null where nobody listens.
  std::unique_ptr<Notice> news_;
};

}  // namespace membacking
