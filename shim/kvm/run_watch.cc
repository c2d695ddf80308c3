// The watch over runs: one thread that makes all vCPUs doubt, again and again.
#include "kvm/run_watch.h"

#include <chrono>
#include <system_error>
#include <thread>

#include "host/thread_signals.h"
#include "kvm/vcpu.h"

namespace membacking {

constexpr std::chrono::milliseconds kPeriod{20};

/// Never destroyed: its thread may still run while the process exits.
RunWatch& RunWatch::instance() {
  static auto* watch = new RunWatch;
  return *watch;
}

Failure RunWatch::add(Vcpu& vcpu) {
  std::lock_guard lock(mutex_);
  if (!isWatching_) {
    try {
      std::thread(&RunWatch::watch, this).detach();
    } catch (const std::system_error& error) {
      return {error.code().value(), "pthread_create", nullptr};
    }
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
    std::this_thread::sleep_for(kPeriod);
    lock.lock();
  }
  isWatching_ = false;
}

}  // namespace membacking
