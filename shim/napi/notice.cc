// Notices: by a threadsafe function.
#include "napi/notice.h"

#include <utility>

namespace membacking {

Notice::Notice(Napi::Env env, Napi::Function function, std::function<void()> end) : env_(env), end_(std::move(end)) {
  const napi_status status =
      napi_create_threadsafe_function(env, function, nullptr, Napi::String::New(env, "membacking.Notice"), 0, 1, nullptr,
                                      nullptr, nullptr, nullptr, &function_);
  if (status != napi_ok) throw Napi::Error::New(env);
  napi_unref_threadsafe_function(env, function_);
  // Added after the function's own hook, so it runs before: nobody calls a function that is gone.
  napi_add_env_cleanup_hook(env, endAtExit, this);
}

Notice::~Notice() { finish(); }

void Notice::give() const { napi_call_threadsafe_function(function_, nullptr, napi_tsfn_nonblocking); }

void Notice::endAtExit(void* notice) { static_cast<Notice*>(notice)->finish(); }

void Notice::finish() {
  if (function_ == nullptr) return;
  end_();
  napi_remove_env_cleanup_hook(env_, endAtExit, this);
  napi_release_threadsafe_function(std::exchange(function_, nullptr), napi_tsfn_abort);
}

}  // namespace membacking
