// Waits for descriptors: one thread of an environment watches all of them, made when somebody waits for the first time.
#pragma once

#include <napi.h>
#include <pthread.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

#include "host/event_fd.h"

namespace membacking {

/// Something that a promise is to be settled with, once a descriptor is readable.
struct Awaited {
  /// Stays open as long as `take` is there.
  int fd;
  /// Name of what it belongs to, for messages.
  const char* owner;
  /// Whether the wait keeps the process running.
  bool keepsRunning;
  /// Takes it; the value stays empty where it is not there yet.
  std::function<Failure(Napi::Env, Napi::Value&)> take;
};

/// Thread that watches descriptors, and the promises that it is for.
class EventWaiter {
 public:
  /// Waiter of an environment.
  static EventWaiter& of(Napi::Env env);
  explicit EventWaiter(Napi::Env env);
  ~EventWaiter() { stop(); }

  /// Promise of what is awaited. `wait`, the number of the owner's last wait or 0, becomes its number, which is not 0.
  /// Throws ERR_WAITING where that one is not settled.
  Napi::Promise wait(Napi::Env env, Awaited awaited, uint64_t& wait);
  /// Rejects the promise of a wait with ERR_CLOSED, if it is not settled.
  void cancel(Napi::Env env, uint64_t wait);

 private:
  struct Pending {
    Awaited awaited;
    Napi::Promise::Deferred promise;
  };

  static void* runThread(void* self);
  static void onSignals(napi_env env, napi_value, void* self, void*);
  static void stopAtExit(void* self);

  void watch();
  Failure arm(uint64_t wait, int fd, bool isNew);
  void settle(Napi::Env env, uint64_t wait);
  bool isWaiting(uint64_t wait) const { return pending_.count(wait) != 0; }
  Pending takePending(Napi::Env env, uint64_t wait);
  void stop();

  napi_env env_;
  FileDescriptor epoll_;
  std::shared_ptr<EventFd> end_;
  napi_threadsafe_function signals_ = nullptr;
  pthread_t thread_ = {};

  // Of JavaScript's thread alone.
  uint64_t waits_ = 0;
  std::unordered_map<uint64_t, Pending> pending_;
  /// Number of those that keep the process running.
  uint32_t running_ = 0;

  std::mutex mutex_;
  /// Waits whose descriptors are readable. With the mutex.
  std::vector<uint64_t> signalled_;
};

/// Wait for one descriptor: one at a time.
class Wait {
 public:
  /// Begins it. Throws ERR_WAITING where it is under way.
  Napi::Promise begin(Napi::Env env, Awaited awaited) { return EventWaiter::of(env).wait(env, std::move(awaited), number_); }
  /// Rejects its promise with ERR_CLOSED, if that is not settled.
  void end(Napi::Env env) {
    if (number_ != 0) EventWaiter::of(env).cancel(env, number_);
  }

 private:
  /// Number of the last one; 0 for none.
  uint64_t number_ = 0;
};

}  // namespace membacking
