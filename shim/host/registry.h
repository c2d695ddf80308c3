// Registries: names of core objects across the threads of the process, so that a worker can open what another thread
// made. A name, the token, is 64 random bits, so that nobody guesses it, and is valid while the object lives.
#pragma once

#include <sys/random.h>

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>

namespace membacking {

/// Objects of one class by token.
template <typename Core>
class Registry {
 public:
  /// The one registry of this kind. Never destroyed: threads may still use it while the process exits.
  static Registry& instance() {
    static Registry* registry = new Registry;
    return *registry;
  }

  /// Gives an object its token, which is not 0.
  uint64_t add(const std::shared_ptr<Core>& core) {
    std::lock_guard lock(mutex_);
    uint64_t token = 0;
    do {
      // As few bytes as these come whole, or the process cannot go on.
      if (::getrandom(&token, sizeof token, 0) != sizeof token) std::abort();
    } while (token == 0 || !entries_.emplace(token, core).second);
    return token;
  }

  /// Null when there is no such object, or no longer.
  std::shared_ptr<Core> find(uint64_t token) {
    std::lock_guard lock(mutex_);
    const auto entry = entries_.find(token);
    return entry == entries_.end() ? nullptr : entry->second.lock();
  }

  /// Forgets a token; 0 is none.
  void remove(uint64_t token) {
    std::lock_guard lock(mutex_);
    entries_.erase(token);
  }

 private:
  std::mutex mutex_;
  std::unordered_map<uint64_t, std::weak_ptr<Core>> entries_;
};

}  // namespace membacking
