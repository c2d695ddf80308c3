// Threads that answer faults: how they wait.

#include "host/fault_thread.h"

#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>

#include <cerrno>
#include <utility>

#include "host/invariant.h"
#include "host/thread_signals.h"

namespace membacking {
namespace {

/// Time for which the thread looks out for the next fault before it sleeps: to be woken takes longer than to answer.
constexpr auto kAwake = std::chrono::microseconds(50);

}  // namespace

Failure FaultThread::start(const char* name, int fd, std::function<Patience()> turn) {
  name_ = name;
  fd_ = fd;
  turn_ = std::move(turn);
  if (const Failure failure = EventFd::create(bell_)) return failure;
  if (const int error = ::pthread_create(&thread_, nullptr, run, this)) return {error, "pthread_create", nullptr};
  isRunning_ = true;
  return kDone;
}

void FaultThread::end() {
  if (!isRunning_) return;
  isEnding_ = true;
  ring();
  ::pthread_join(thread_, nullptr);
  isRunning_ = false;
}

void FaultThread::ring() const { INVARIANT(!bell_->signal(1)); }

void FaultThread::stayAwake() { awakeUntil_ = Clock::now() + kAwake; }

void* FaultThread::run(void* self) {
  auto* thread = static_cast<FaultThread*>(self);
  leaveSignalsToOthers();
  ::prctl(PR_SET_NAME, thread->name_);
  thread->serve();
  return nullptr;
}

void FaultThread::serve() {
  pollfd watched[] = {{fd_, POLLIN, 0}, {bell_->fd(), POLLIN, 0}};
  for (Patience patience = -1; !isEnding_;) {
    const bool isAwake = Clock::now() < awakeUntil_;
    const int count = ::poll(watched, 2, isAwake ? 0 : patience);
    INVARIANT(count >= 0 || errno == EINTR);
    if (isAwake && count == 0) {
      // Whoever was woken may need this processor.
      ::sched_yield();
      continue;
    }
    uint64_t rung = 0;
    if (watched[1].revents != 0) INVARIANT(!bell_->take(rung));
    patience = turn_();
  }
}

}  // namespace membacking
