// Leavings: pages that nobody reaches any more, kept until another thread gives them back to the machine, which takes
// longer than to take them away.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "host/host_range.h"

namespace membacking {

class Pager;
struct MemoryObject;

/// Pages on their way back to the machine. One thread at a time uses it.
class Leavings {
 public:
  /// Takes the pages of a range of whole pages: what the range shows stays, without pages of its own. False: some are
  /// still there, as the range is short, the kernel does not move them, or enough is kept already. `pager`: who brings
  /// pages to that range, and has nothing to bring any more; null: nobody.
  bool take(HostRange& from, uint64_t offset, uint64_t length, Pager* pager = nullptr);
  /// Keeps a share of an object, the last one perhaps.
  void keep(std::shared_ptr<MemoryObject> object) { objects_.push_back(std::move(object)); }
  /// Adds the bytes of memory and swap that the private pages alone use, but those of objects.
  Failure count(uint64_t& bytes) const;
  /// Gives all of it back, in parts: nobody changes what this process has mapped while a part goes.
  void free();

 private:
  std::vector<HostRange> pages_;
  std::vector<std::shared_ptr<MemoryObject>> objects_;
};

}  // namespace membacking
