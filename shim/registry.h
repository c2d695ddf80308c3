// Names core objects by number across the threads of the process, so that a worker can open what another thread
// made. A number is valid while the object lives and is never used again.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

namespace membacking {

template <typename Core>
class Registry {
 public:
  /// The one registry of this kind. Never destroyed: threads may still use it while the process exits.
  static Registry& instance() {
    static Registry* registry = new Registry;
    return *registry;
  }

  uint32_t add(const std::shared_ptr<Core>& core) {
    std::lock_guard lock(mutex_);
    entries_.emplace(++last_, core);
    return last_;
  }

  /// Null when there is no such object, or no longer.
  std::shared_ptr<Core> find(uint32_t token) {
    std::lock_guard lock(mutex_);
    const auto entry = entries_.find(token);
    return entry == entries_.end() ? nullptr : entry->second.lock();
  }

  /// Those that live now.
  std::vector<std::shared_ptr<Core>> all() {
    std::lock_guard lock(mutex_);
    std::vector<std::shared_ptr<Core>> cores;
    for (const auto& entry : entries_) {
      if (auto core = entry.second.lock()) cores.push_back(std::move(core));
    }
    return cores;
  }

  void remove(uint32_t token) {
    std::lock_guard lock(mutex_);
    entries_.erase(token);
  }

 private:
  std::mutex mutex_;
  uint32_t last_ = 0;
  std::unordered_map<uint32_t, std::weak_ptr<Core>> entries_;
};

}  // namespace membacking
