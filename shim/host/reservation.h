// VA spaces: linear reservations that mirror an address space, HVA = base + GPA.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "host/limits.h"
#include "host/locks.h"
#include "host/mapping.h"

namespace membacking {

/// One VA space, with the limits of its use, known to the process by its token; or a view of one, which has limits and
/// a token of its own.
class Reservation {
 public:
  /// `size` in bytes, whole pages and not 0.
  static Failure create(uint64_t size, const std::string& name, std::shared_ptr<Reservation>& result);
  /// View of a VA space, in which nothing may be used until its limits say so.
  static std::shared_ptr<Reservation> createView(std::shared_ptr<Reservation> viewed);

  /// `viewed`: VA space that it is a view of; null for a VA space.
  explicit Reservation(std::shared_ptr<Reservation> viewed);
  ~Reservation();

  bool isView() const { return viewed_ != nullptr; }
  Mapping& mapping() { return isView() ? viewed_->mapping_ : mapping_; }
  Limits& limits() { return limits_; }
  Locks& locks() { return locks_; }
  uint64_t token() const { return token_; }

 private:
  const std::shared_ptr<Reservation> viewed_;
  Mapping mapping_;
  Limits limits_;
  Locks locks_;
  uint64_t token_ = 0;
};

}  // namespace membacking
