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
  if (!range || range->start != offset) return {nullptr, nullptr, 0, range ? range->start - offset : length, false};
  const auto& [stay, gpa] = range->value;
  const uint64_t together = range->end - offset;
  std::shared_ptr<Reservation> reservation = stay.lock();
  std::shared_ptr<const HostRange> stretch = reservation ? reservation->find(gpa, together) : nullptr;
  const bool isLost = stretch == nullptr;
  return {std::move(reservation), std::move(stretch), gpa, together, isLost};
}

}  // namespace membacking
