// Waits for descriptors: the thread, and how signals reach JavaScript.

#include "napi/event_waiter.h"

#include <sys/epoll.h>

#include <string>
#include <utility>

#include "host/invariant.h"
#include "host/thread_signals.h"
#include "napi/handle.h"
#include "napi/sys_error.h"

namespace membacking {

/// Number that stands for the end of the thread.
static constexpr uint64_t kEnd = 0;

EventWaiter& EventWaiter::of(Napi::Env env) {
  std::shared_ptr<EventWaiter>& waiter = env.GetInstanceData<AddonData>()->waiter;
  if (!waiter) waiter = std::make_shared<EventWaiter>(env);
  return *waiter;
}

EventWaiter::EventWaiter(Napi::Env env) : env_(env) {
  epoll_ = FileDescriptor(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll_.isOpen()) throw systemError(env, failedCall("epoll_create1"));
  check(env, EventFd::create(end_));
  check(env, arm(kEnd, end_->fd(), true));
  const napi_status status =
      napi_create_threadsafe_function(env, nullptr, nullptr, Napi::String::New(env, "membacking.waiter"), 0, 1, nullptr,
                                      nullptr, this, onSignals, &signals_);
  if (status != napi_ok) throw Napi::Error::New(env);
  napi_unref_threadsafe_function(env, signals_);
  // Added after the function's own hook, so it runs before: the thread never reports to a function that is gone.
  napi_add_env_cleanup_hook(env, stopAtExit, this);
  if (const int error = ::pthread_create(&thread_, nullptr, runThread, this)) {
    napi_remove_env_cleanup_hook(env, stopAtExit, this);
    napi_release_threadsafe_function(std::exchange(signals_, nullptr), napi_tsfn_abort);
    throw systemError(env, {error, "pthread_create", nullptr});
  }
}

/// Lets the thread report that a descriptor is readable, once.
Failure EventWaiter::arm(uint64_t wait, int fd, bool isNew) {
  epoll_event event = {};
  event.events = EPOLLIN | EPOLLONESHOT;
  event.data.u64 = wait;
  const int done = ::epoll_ctl(epoll_.get(), isNew ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &event);
  return done == 0 ? kDone : failedCall("epoll_ctl");
}

Napi::Promise EventWaiter::wait(Napi::Env env, Awaited awaited, uint64_t& wait) {
  if (isWaiting(wait)) throwCoded(env, "ERR_WAITING", std::string("Somebody waits for this ") + awaited.owner + " already");
  const uint64_t number = ++waits_;
  check(env, arm(number, awaited.fd, true));
  Napi::Promise::Deferred promise = Napi::Promise::Deferred::New(env);
  if (awaited.keepsRunning && running_++ == 0) napi_ref_threadsafe_function(env, signals_);
  pending_.emplace(number, Pending{std::move(awaited), promise});
  wait = number;
  return promise.Promise();
}

/// Ends a wait that is pending.
EventWaiter::Pending EventWaiter::takePending(Napi::Env env, uint64_t wait) {
  const auto found = pending_.find(wait);
  Pending taken = std::move(found->second);
  pending_.erase(found);
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, taken.awaited.fd, nullptr);
  if (taken.awaited.keepsRunning && --running_ == 0) napi_unref_threadsafe_function(env, signals_);
  return taken;
}

void EventWaiter::cancel(Napi::Env env, uint64_t wait) {
  if (!isWaiting(wait)) return;
  const Pending taken = takePending(env, wait);
  const std::string message = std::string("This ") + taken.awaited.owner + " was closed while somebody waited for it";
  Napi::Error error = Napi::Error::New(env, message);
  error.Set("code", Napi::String::New(env, "ERR_CLOSED"));
  taken.promise.Reject(error.Value());
}

/// Settles the promise of a wait whose descriptor is readable, unless somebody else has taken what was there.
void EventWaiter::settle(Napi::Env env, uint64_t wait) {
  const auto found = pending_.find(wait);
  if (found == pending_.end()) return;
  const Awaited& awaited = found->second.awaited;
  Napi::Value value;
  Failure failure = awaited.take(env, value);
  if (!failure && value.IsEmpty()) failure = arm(wait, awaited.fd, false);
  if (failure) {
    takePending(env, wait).promise.Reject(systemError(env, failure).Value());
  } else if (!value.IsEmpty()) {
    takePending(env, wait).promise.Resolve(value);
  }
}

void EventWaiter::onSignals(napi_env env, napi_value, void* self, void*) {
  // Without an environment the function is only emptied, at its end.
  if (env == nullptr) return;
  auto* waiter = static_cast<EventWaiter*>(self);
  std::vector<uint64_t> signalled;
  {
    std::lock_guard lock(waiter->mutex_);
    signalled.swap(waiter->signalled_);
  }
  for (const uint64_t wait : signalled) waiter->settle(env, wait);
}

void* EventWaiter::runThread(void* self) {
  leaveSignalsToOthers();
  static_cast<EventWaiter*>(self)->watch();
  return nullptr;
}

void EventWaiter::watch() {
  for (;;) {
    epoll_event events[16];
    const int count = ::epoll_wait(epoll_.get(), events, 16, -1);
    INVARIANT(count >= 0 || errno == EINTR);
    {
      std::lock_guard lock(mutex_);
      for (int i = 0; i < count; i++) {
        if (events[i].data.u64 == kEnd) return;
        signalled_.push_back(events[i].data.u64);
      }
    }
    napi_call_threadsafe_function(signals_, nullptr, napi_tsfn_nonblocking);
  }
}

void EventWaiter::stopAtExit(void* self) {
  auto* waiter = static_cast<EventWaiter*>(self);
  waiter->stop();
  // The promises end with their environment.
  waiter->pending_.clear();
}

void EventWaiter::stop() {
  if (signals_ == nullptr) return;
  INVARIANT(!end_->signal(1));
  ::pthread_join(thread_, nullptr);
  napi_remove_env_cleanup_hook(env_, stopAtExit, this);
  napi_release_threadsafe_function(std::exchange(signals_, nullptr), napi_tsfn_abort);
}

}  // namespace membacking
