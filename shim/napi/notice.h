// Notices: functions of JavaScript that any thread has called, on the thread of their environment.
#pragma once

#include <napi.h>

#include <functional>

namespace membacking {

/// One function. It keeps no environment alive. Whoever may call give() stops at `end`, which comes before the
/// environment ends, or the notice.
class Notice {
 public:
  Notice(Napi::Env env, Napi::Function function, std::function<void()> end);
  ~Notice();
  Notice(const Notice&) = delete;

  /// Has the function called soon. Any thread may ask for that.
  void give() const;

 private:
  static void endAtExit(void* notice);
  void finish();

  napi_env env_;
  napi_threadsafe_function function_ = nullptr;
  std::function<void()> end_;
};

}  // namespace membacking
