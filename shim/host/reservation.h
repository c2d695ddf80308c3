// A VA space: one linear reservation that mirrors an address space, HVA = base + GPA.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "host/limits.h"
#include "host/mapping.h"

namespace membacking {

class Reservation {
 public:
  static Failure create(uint64_t size, const std::string& name, std::shared_ptr<Reservation>& result);
  ~Reservation();

  Mapping& mapping() { return mapping_; }
  Limits& limits() { return limits_; }
  uint64_t token() const { return token_; }

 private:
  Mapping mapping_;
  Limits limits_;
  uint64_t token_ = 0;
};

}  // namespace membacking
