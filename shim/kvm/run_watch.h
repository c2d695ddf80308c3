// Watch over runs. A guest may run for ever, and its thread hears nothing meanwhile: not that the process ends, nor
// that its worker is to. So every few milliseconds all runs are told to find out whether they are still waited for.
#pragma once

#include <mutex>
#include <unordered_set>

#include "host/failure.h"

namespace membacking {

class Vcpu;

/// Watch over all vCPUs of the process. Its thread lives as long as there are any.
class RunWatch {
 public:
  static RunWatch& instance();

  Failure add(Vcpu& vcpu);
  /// Lets go of a vCPU, before that ends.
  void remove(Vcpu& vcpu);

 private:
  void watch();

  std::mutex mutex_;
  std::unordered_set<Vcpu*> vcpus_;
  bool isWatching_ = false;
};

}  // namespace membacking
