// VA spaces: linear reservations that mirror an address space, HVA = base + GPA.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "host/limits.h"
#include "host/locks.h"
#include "host/mapping.h"

namespace membacking {

/// One VA space, with the limits of its use, known to the process by its token.
class Reservation {
 public:
  /// `size` in bytes, whole pages and not 0.
  static Failure create(uint64_t size, const std::string& name, std::shared_ptr<Reservation>& result);
  ~Reservation();

  Mapping& mapping() { return mapping_; }
  Limits& limits() { return limits_; }
  Locks& locks() { return locks_; }
  uint64_t token() const { return token_; }

 private:
  Mapping mapping_;
  Limits limits_;
  Locks locks_;
  uint64_t token_ = 0;
};

}  // namespace membacking
