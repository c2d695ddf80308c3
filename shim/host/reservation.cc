// VA spaces: how they are made, and entered for other threads.

#include "host/reservation.h"

#include <utility>

#include "host/fault_guard.h"
#include "host/registry.h"

namespace membacking {

Failure Reservation::create(uint64_t size, const std::string& name, std::shared_ptr<Reservation>& result) {
  installFaultGuard();
  auto reservation = std::make_shared<Reservation>();
  if (const Failure failure = Mapping::reserve(size, name, reservation->mapping_)) return failure;
  reservation->token_ = Registry<Reservation>::instance().add(reservation);
  result = std::move(reservation);
  return kDone;
}

Reservation::~Reservation() { Registry<Reservation>::instance().remove(token_); }

}  // namespace membacking
