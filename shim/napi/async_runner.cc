// Runs in the background: the thread, how its exits reach JavaScript, and how it ends.
#include "napi/async_runner.h"

#include <condition_variable>
#include <mutex>
#include <optional>

#include "host/invariant.h"
#include "host/thread_signals.h"
#include "napi/sys_error.h"

namespace membacking {

struct AsyncRunner::State {
  struct Pending {
    Napi::Promise::Deferred promise;
    Napi::ObjectReference self;
  };

  std::shared_ptr<Vcpu> vcpu;
  std::shared_ptr<ExitFacts> facts;
  napi_threadsafe_function exits = nullptr;

  /// Run that JavaScript waits for. On its thread alone.
  std::optional<Pending> pending;

  std::mutex mutex;
  std::condition_variable changed;
  // Guarded by the mutex.
  bool isWanted = false;
  bool isStopping = false;
  /// Failure of the last run: written by the thread before it reports an exit, read after.
  Failure failure;

  /// Ends the wait for the pending run, and the claim.
  Pending takePending() {
    Pending taken = std::move(*pending);
    pending.reset();
    vcpu->unclaim();
    return taken;
  }
};

AsyncRunner::AsyncRunner(Napi::Env env, std::shared_ptr<Vcpu> vcpu, std::shared_ptr<ExitFacts> facts)
    : env_(env), state_(std::make_shared<State>()) {
  state_->vcpu = std::move(vcpu);
  state_->facts = std::move(facts);
  // The function may be asked to finish after this object: it has a share of the state for its own.
  auto* share = new std::shared_ptr<State>(state_);
  const napi_status status = napi_create_threadsafe_function(
      env, nullptr, nullptr, Napi::String::New(env, "membacking.Vcpu"), 0, 1, share,
      [](napi_env, void* data, void*) { delete static_cast<std::shared_ptr<State>*>(data); }, state_.get(), onExit,
      &state_->exits);
  if (status != napi_ok) {
    delete share;
    throw Napi::Error::New(env);
  }
  napi_unref_threadsafe_function(env, state_->exits);
  // Added after the function's own hook, so it runs before: the thread never reports to a function that is gone.
  napi_add_env_cleanup_hook(env, stopAtExit, this);
  if (const int error = ::pthread_create(&thread_, nullptr, runThread, state_.get())) {
    letGo();
    throw systemError(env, {error, "pthread_create", nullptr});
  }
}

AsyncRunner::~AsyncRunner() { stop(); }

Napi::Promise AsyncRunner::start(Napi::Env env, Napi::Object self) {
  INVARIANT(!state_->pending);
  state_->pending.emplace(State::Pending{Napi::Promise::Deferred::New(env), Napi::Persistent(self)});
  const Napi::Promise promise = state_->pending->promise.Promise();
  napi_ref_threadsafe_function(env, state_->exits);
  {
    std::lock_guard lock(state_->mutex);
    state_->isWanted = true;
  }
  state_->changed.notify_one();
  return promise;
}

void AsyncRunner::close(Napi::Env env) {
  stop();
  if (!state_->pending) return;
  Napi::Error error = Napi::Error::New(env, "This Vcpu was closed while it ran");
  error.Set("code", Napi::String::New(env, "ERR_CLOSED"));
  state_->takePending().promise.Reject(error.Value());
}

void AsyncRunner::stopAtExit(void* self) {
  auto* runner = static_cast<AsyncRunner*>(self);
  runner->stop();
  // The promise ends with its environment; the vCPU may go on elsewhere.
  if (runner->state_->pending) runner->state_->takePending();
}

void AsyncRunner::stop() {
  if (state_->exits == nullptr) return;
  {
    std::lock_guard lock(state_->mutex);
    state_->isStopping = true;
  }
  state_->changed.notify_one();
  // Not a kick: if the run has ended by itself, that would end the next one.
  if (state_->pending) state_->vcpu->setEnding(true);
  ::pthread_join(thread_, nullptr);
  if (state_->pending) state_->vcpu->setEnding(false);
  letGo();
}

/// Takes the runner out of its environment. It has no thread any more.
void AsyncRunner::letGo() {
  napi_remove_env_cleanup_hook(env_, stopAtExit, this);
  napi_release_threadsafe_function(std::exchange(state_->exits, nullptr), napi_tsfn_abort);
}

void* AsyncRunner::runThread(void* itsState) {
  auto* state = static_cast<State*>(itsState);
  // Signals would end runs for nothing.
  leaveSignalsToOthers();
  std::unique_lock lock(state->mutex);
  for (;;) {
    state->changed.wait(lock, [&] { return state->isWanted || state->isStopping; });
    if (state->isStopping) return nullptr;
    state->isWanted = false;
    lock.unlock();
    state->failure = state->vcpu->run(nullptr);
    napi_call_threadsafe_function(state->exits, nullptr, napi_tsfn_nonblocking);
    lock.lock();
  }
}

void AsyncRunner::onExit(napi_env env, napi_value, void* context, void*) {
  auto* state = static_cast<State*>(context);
  // Without an environment the function is only emptied, at its end; without a pending run, close() has settled it.
  if (env == nullptr || !state->pending) return;
  napi_unref_threadsafe_function(env, state->exits);
  if (!state->failure) state->vcpu->readExit(*state->facts);
  const State::Pending done = state->takePending();
  if (state->failure) {
    done.promise.Reject(systemError(env, state->failure).Value());
  } else {
    done.promise.Resolve(Napi::Number::New(env, state->facts->reason));
  }
}

}  // namespace membacking
