// Threads that answer the faults of a userfaultfd, and do what others ring for.
#pragma once

#include <pthread.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>

#include "host/event_fd.h"
#include "host/failure.h"

namespace membacking {

/// A thread that waits for messages of a userfaultfd, or for a bell, and takes turns to do what is to be done then.
class FaultThread {
 public:
  using Clock = std::chrono::steady_clock;
  /// Milliseconds for which the thread may sleep; -1: until there is something.
  using Patience = int;

  /// Starts a thread that calls `turn()` when there may be something to do; it gives how long the next one may sleep.
  Failure start(const char* name, int fd, std::function<Patience()> turn);
  FaultThread() = default;
  /// Waits until the turn that is going on has ended.
  ~FaultThread() { end(); }
  FaultThread(const FaultThread&) = delete;

  /// Has the thread take a turn.
  void ring() const;
  /// Ends the thread.
  void end();

  /// Says, in a turn, that a fault was answered, and that the next one may follow soon.
  void stayAwake();

 private:
  static void* run(void* self);
  void serve();

  std::function<Patience()> turn_;
  const char* name_ = nullptr;
  int fd_ = -1;
  std::shared_ptr<EventFd> bell_;
  pthread_t thread_ = {};
  bool isRunning_ = false;
  std::atomic<bool> isEnding_ = false;
  /// The thread sleeps no earlier.
  Clock::time_point awakeUntil_;
};

}  // namespace membacking
