// Whereabouts of private pages: ranges of the object, and the places that they have.
#include "host/whereabouts.h"

#include "host/invariant.h"
#include "host/reservation.h"

namespace membacking {

void Whereabouts::moved(uint64_t offset, uint64_t length, const std::shared_ptr<Reservation>& reservation,
                        uint64_t gpa) {
  INVARIANT(length != 0);
  if (reservation) {
    stays_.set(offset, offset + length, {reservation, gpa});
  } else {
    stays_.erase(offset, offset + length);
  }
}

Whereabouts::Place Whereabouts::find(uint64_t offset, uint64_t length) const {
  INVARIANT(length != 0);
  const auto range = stays_.first(offset, offset + length);
  if (!range) return {nullptr, 0, length, false};
  if (range->start != offset) return {nullptr, 0, range->start - offset, false};
  std::shared_ptr<Reservation> reservation = range->value.reservation.lock();
  const bool isLost = reservation == nullptr;
  return {std::move(reservation), range->value.gpa, range->end - offset, isLost};
}

uint64_t Whereabouts::Place::address() const {
  const Reservation::Share stretch = reservation->find(gpa, length);
  // Stretches go only when nothing is in them.
  INVARIANT(stretch != nullptr);
  return stretch->addressOf(gpa);
}

}  // namespace membacking
