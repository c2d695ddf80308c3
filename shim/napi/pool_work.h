// Long work on a thread of Node.js's pool.
#pragma once

#include <napi.h>

#include <functional>
#include <utility>

#include "host/failure.h"
#include "napi/sys_error.h"

namespace membacking {

/// Settles its promise when `work` is done; it deletes itself then. `work` has its own share of whatever it uses.
class PoolWork : public Napi::AsyncWorker {
 public:
  /// `result`: makes what the promise is resolved with.
  static Napi::Promise start(Napi::Env env, const char* name, std::function<Failure()> work,
                             std::function<Napi::Value(Napi::Env)> result = nothing) {
    auto* worker = new PoolWork(env, name, std::move(work), std::move(result));
    const Napi::Promise promise = worker->promise_.Promise();
    worker->Queue();
    return promise;
  }

 private:
  PoolWork(Napi::Env env, const char* name, std::function<Failure()> work,
           std::function<Napi::Value(Napi::Env)> result)
      : AsyncWorker(env, name),
        promise_(Napi::Promise::Deferred::New(env)),
        work_(std::move(work)),
        result_(std::move(result)) {}

  static Napi::Value nothing(Napi::Env env) { return env.Undefined(); }

  void Execute() override { failure_ = work_(); }

  void OnOK() override {
    try {
      if (failure_) {
        promise_.Reject(systemError(Env(), failure_).Value());
      } else {
        promise_.Resolve(result_(Env()));
      }
    } catch (const Napi::Error&) {
      // The environment is at its end, and nobody waits any more.
    }
  }

  Napi::Promise::Deferred promise_;
  std::function<Failure()> work_;
  std::function<Napi::Value(Napi::Env)> result_;
  Failure failure_;
};

}  // namespace membacking
