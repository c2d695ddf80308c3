// Whereabouts of private pages: stays that a move cuts, takes out, or adds.
#include "host/whereabouts.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "host/invariant.h"
#include "host/reservation.h"

namespace membacking {

void Whereabouts::moved(uint64_t offset, uint64_t length, const std::shared_ptr<Reservation>& reservation,
                        uint64_t gpa) {
  INVARIANT(length != 0);
  const uint64_t end = offset + length;
  auto at = stays_.lower_bound(offset);
  if (at != stays_.begin() && std::prev(at)->second.end > offset) --at;
  while (at != stays_.end() && at->first < end) {
    const auto [start, stay] = std::pair(at->first, std::move(at->second));
    at = stays_.erase(at);
    if (stay.end > end) at = stays_.insert({end, {stay.end, stay.reservation, stay.gpa + (end - start)}}).first;
    if (start < offset) stays_.insert({start, {offset, stay.reservation, stay.gpa}});
  }
  if (reservation) stays_.insert({offset, {end, reservation, gpa}});
}

Whereabouts::Place Whereabouts::find(uint64_t offset, uint64_t length) const {
  INVARIANT(length != 0);
  const auto next = stays_.upper_bound(offset);
  if (next != stays_.begin()) {
    const auto& [start, stay] = *std::prev(next);
    if (stay.end > offset) {
      std::shared_ptr<Reservation> reservation = stay.reservation.lock();
      const bool isLost = reservation == nullptr;
      return {std::move(reservation), stay.gpa + (offset - start), std::min(length, stay.end - offset), isLost};
    }
  }
  return {nullptr, 0, next == stays_.end() ? length : std::min(length, next->first - offset), false};
}

uint64_t Whereabouts::Place::address() const {
  const Reservation::Share stretch = reservation->find(gpa, length);
  // Stretches go only when nothing is in them.
  INVARIANT(stretch != nullptr);
  return stretch->addressOf(gpa);
}

}  // namespace membacking
