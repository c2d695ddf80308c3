// Pagers as JavaScript calls them, and how their news reaches it.

#include "napi/pager_handle.h"

#include <utility>

namespace membacking {

PagerHandle::PagerHandle(const Napi::CallbackInfo& info) : Handle(info), env_(info.Env()) {}

void PagerHandle::define(Napi::Env env, Napi::Object exports) {
  Handle::define(env, exports,
                 {
                     StaticMethod<&PagerHandle::create>("create"),
                     InstanceMethod<&PagerHandle::listen>("listen"),
                     InstanceMethod<&PagerHandle::takeLosses>("takeLosses"),
                     InstanceMethod<&PagerHandle::close>("close"),
                 });
}

Napi::Value PagerHandle::create(const Napi::CallbackInfo& info) {
  std::shared_ptr<Pager> pager;
  check(info.Env(), Pager::open(pager));
  return wrap(info.Env(), std::move(pager));
}

void PagerHandle::listen(const Napi::CallbackInfo& info) {
  Pager& pager = core(info);
  if (!info[0].IsFunction()) throwType(info.Env(), "listener", "a function");
  stopListening();
  const napi_status status = napi_create_threadsafe_function(
      env_, info[0], nullptr, Napi::String::New(env_, "membacking.Pager"), 0, 1, nullptr, nullptr, nullptr, nullptr, &news_);
  if (status != napi_ok) throw Napi::Error::New(env_);
  napi_unref_threadsafe_function(env_, news_);
  // Added after the function's own hook, so it runs before: the pager never calls a function that is gone.
  napi_add_env_cleanup_hook(env_, stopAtExit, this);
  pager.setListener([news = news_] { napi_call_threadsafe_function(news, nullptr, napi_tsfn_nonblocking); });
}

Napi::Value PagerHandle::takeLosses(const Napi::CallbackInfo& info) {
  const std::vector<Pager::Loss> losses = core(info).takeLosses();
  Napi::Array result = Napi::Array::New(info.Env(), losses.size());
  for (uint32_t i = 0; i < losses.size(); i++) {
    const auto& [page, why] = losses[i];
    Napi::Object loss = Napi::Object::New(info.Env());
    loss.Set("block", Napi::Number::New(info.Env(), page.block));
    loss.Set("offset", Napi::Number::New(info.Env(), static_cast<double>(page.pages.offset)));
    loss.Set("error", systemError(info.Env(), why).Value());
    result.Set(i, loss);
  }
  return result;
}

void PagerHandle::close(const Napi::CallbackInfo&) {
  stopListening();
  release();
}

void PagerHandle::stopAtExit(void* self) { static_cast<PagerHandle*>(self)->stopListening(); }

void PagerHandle::stopListening() {
  if (news_ == nullptr) return;
  shared(env_)->setListener(nullptr);
  napi_remove_env_cleanup_hook(env_, stopAtExit, this);
  napi_release_threadsafe_function(std::exchange(news_, nullptr), napi_tsfn_abort);
}

}  // namespace membacking
