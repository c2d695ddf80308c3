// VA spaces and views of them: how they are made, and entered for other threads.

#include "host/reservation.h"

#include <utility>

#include "host/fault_guard.h"
#include "host/registry.h"

namespace membacking {

Failure Reservation::create(uint64_t size, const std::string& name, std::shared_ptr<Reservation>& result) {
  installFaultGuard();
  auto reservation = std::make_shared<Reservation>(nullptr);
  if (const Failure failure = Mapping::reserve(size, name, reservation->mapping_)) return failure;
  reservation->token_ = Registry<Reservation>::instance().add(reservation);
  result = std::move(reservation);
  return kDone;
}

std::shared_ptr<Reservation> Reservation::createView(std::shared_ptr<Reservation> viewed) {
  auto view = std::make_shared<Reservation>(std::move(viewed));
  view->limits_.set({0, view->mapping().size(), Use::kNothing});
  view->token_ = Registry<Reservation>::instance().add(view);
  return view;
}

Reservation::Reservation(std::shared_ptr<Reservation> viewed)
    : viewed_(std::move(viewed)), limits_(viewed_ ? &viewed_->limits_ : nullptr) {}

Reservation::~Reservation() { Registry<Reservation>::instance().remove(token_); }

}  // namespace membacking
