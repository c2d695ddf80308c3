// Runs in the background: a thread runs one vCPU, so that JavaScript stays free while the guest runs. It belongs to a
// vCPU handle, is made for its first run in the background, and waits between runs.
#pragma once

#include <napi.h>
#include <pthread.h>

#include <memory>

#include "kvm/vcpu.h"

namespace membacking {

/// Thread that runs one vCPU.
class AsyncRunner {
 public:
  AsyncRunner(Napi::Env env, std::shared_ptr<Vcpu> vcpu, std::shared_ptr<ExitFacts> facts);
  ~AsyncRunner();

  /// Begins a run of the vCPU that the caller has claimed, and gives the claim back when the promise is settled: with
  /// the exit's reason. `self` is kept alive until then.
  Napi::Promise start(Napi::Env env, Napi::Object self);
  /// Kicks the guest out, if it runs, rejects the promise with ERR_CLOSED and ends the thread.
  void close(Napi::Env env);

 private:
  struct State;

  static void* runThread(void* itsState);
  static void onExit(napi_env env, napi_value, void* context, void*);
  static void stopAtExit(void* self);
  void stop();
  void letGo();

  napi_env env_;
  std::shared_ptr<State> state_;
  pthread_t thread_ = {};
};

}  // namespace membacking
