// VA spaces in JavaScript.
#pragma once

#include <napi.h>

#include <memory>

#include "host/reservation.h"
#include "napi/guest_calls.h"
#include "napi/handle.h"
#include "napi/notice.h"

namespace membacking {

/// Reservation in JavaScript.
class ReservationHandle : public Handle<ReservationHandle, Reservation> {
 public:
  static constexpr napi_type_tag kTag{0x6d656d6261636b69, 0x7265736572766174};
  static constexpr const char* kName = "Reservation";

  explicit ReservationHandle(const Napi::CallbackInfo& info);
  ~ReservationHandle() override;
  static void define(Napi::Env env, Napi::Object exports);

 private:
  static Napi::Value create(const Napi::CallbackInfo& info);
  static Napi::Value createView(const Napi::CallbackInfo& info);
  static Napi::Value fromToken(const Napi::CallbackInfo& info);

  Napi::Value base(const Napi::CallbackInfo& info);
  Napi::Value size(const Napi::CallbackInfo& info);
  Napi::Value addressOf(const Napi::CallbackInfo& info);
  Napi::Value token(const Napi::CallbackInfo& info);
  Napi::Value absentIn(const Napi::CallbackInfo& info);
  Napi::Value fill(const Napi::CallbackInfo& info);
  Napi::Value discardPrivate(const Napi::CallbackInfo& info);
  Napi::Value discardPrivateLater(const Napi::CallbackInfo& info);
  Napi::Value view(const Napi::CallbackInfo& info);
  void detachView(const Napi::CallbackInfo& info);
  Napi::Value moveView(const Napi::CallbackInfo& info);
  Napi::Value windowGates(const Napi::CallbackInfo& info);
  Napi::Value openWindow(const Napi::CallbackInfo& info);
  Napi::Value gate(const Napi::CallbackInfo& info);
  Napi::Value bar(const Napi::CallbackInfo& info);
  void unbar(const Napi::CallbackInfo& info);
  Napi::Value lockedIn(const Napi::CallbackInfo& info);
  Napi::Value isLocked(const Napi::CallbackInfo& info);
  void revoke(const Napi::CallbackInfo& info);
  Napi::Value showLock(const Napi::CallbackInfo& info);
  Napi::Value isAskedFor(const Napi::CallbackInfo& info);
  void close(const Napi::CallbackInfo& info);

  WindowUser& windowUser(const Napi::CallbackInfo& info);

  std::shared_ptr<GuestCalls> calls_ = std::make_shared<GuestCalls>();
  /// Null until somebody asks for windows.
  std::unique_ptr<WindowUser> windowUser_;
  /// Tells JavaScript that a lock with a view is asked for. Null until there is one.
  std::unique_ptr<Notice> notice_;
};

}  // namespace membacking
