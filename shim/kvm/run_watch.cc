// The watch over runs: one thread that makes all vCPUs doubt, again and again.
#include "kvm/run_watch.h"

#include <pthread.h>

#include <ctime>

#include "host/thread_signals.h"
#include "kvm/vcpu.h"

namespace membacking {

constexpr timespec kPeriod{0, 20'000'000};

/// Never destroyed: its thread may still run while the process exits.
RunWatch& RunWatch::instance() {
  static auto* watch = new RunWatch;
  return *watch;
}

Failure RunWatch::add(Vcpu& vcpu) {
  std::lock_guard lock(mutex_);
  if (!isWatching_) {
    const auto body = [](void* self) -> void* { return static_cast<RunWatch*>(self)->watch(), nullptr; };
    pthread_t thread;
    if (const int error = ::pthread_create(&thread, nullptr, body, this)) return {error, "pthread_create", nullptr};
    ::pthread_detach(thread);
    isWatching_ = true;
  }
  vcpus_.insert(&vcpu);
  return kDone;
}

void RunWatch::remove(Vcpu& vcpu) {
  std::lock_guard lock(mutex_);
  vcpus_.erase(&vcpu);
}

void RunWatch::watch() {
  leaveSignalsToOthers();
  std::unique_lock lock(mutex_);
  while (!vcpus_.empty()) {
    for (Vcpu* vcpu : vcpus_) vcpu->doubt();
    lock.unlock();
    ::nanosleep(&kPeriod, nullptr);
    lock.lock();
  }
  isWatching_ = false;
}

}  // namespace membacking
