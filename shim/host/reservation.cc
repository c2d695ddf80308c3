// VA spaces and views of them: how they are made, grow and shrink, and are entered for other threads.

#include "host/reservation.h"

#include <algorithm>
#include <iterator>
#include <mutex>
#include <utility>

#include "host/fault_guard.h"
#include "host/registry.h"

namespace membacking {

Failure Reservation::create(uint64_t size, uint64_t reach, const std::string& name,
                            std::shared_ptr<Reservation>& result) {
  installFaultGuard();
  auto reservation = std::make_shared<Reservation>(nullptr);
  if (const Failure failure = HostRange::reserve(size, name, reservation->first_)) return failure;
  reservation->reach_ = reach;
  reservation->name_ = name;
  reservation->token_ = Registry<Reservation>::instance().add(reservation);
  result = std::move(reservation);
  return kDone;
}

std::shared_ptr<Reservation> Reservation::createView(std::shared_ptr<Reservation> viewed) {
  auto view = std::make_shared<Reservation>(std::move(viewed));
  view->limits_.set({0, UINT64_MAX, Use::kNothing});
  view->token_ = Registry<Reservation>::instance().add(view);
  return view;
}

Reservation::Reservation(std::shared_ptr<Reservation> viewed)
    : viewed_(std::move(viewed)), limits_(viewed_ ? &viewed_->limits_ : nullptr) {}

Reservation::~Reservation() { Registry<Reservation>::instance().remove(token_); }

Reservation::Share Reservation::find(uint64_t gpa) {
  if (isView()) return viewed_->find(gpa);
  if (gpa < first_.size()) return Share(shared_from_this(), &first_);
  const std::shared_lock lock(mutex_);
  const auto next = others_.upper_bound(gpa);
  if (next == others_.begin()) return nullptr;
  const Share& stretch = std::prev(next)->second;
  return stretch->contains(gpa, 1) ? stretch : nullptr;
}

Reservation::Share Reservation::find(uint64_t gpa, uint64_t length) {
  Share stretch = find(gpa);
  return stretch != nullptr && stretch->contains(gpa, length) ? stretch : nullptr;
}

bool Reservation::hasAddresses(uint64_t gpa, uint64_t length) {
  while (length != 0) {
    const Share stretch = find(gpa);
    if (stretch == nullptr) return false;
    const uint64_t covered = std::min(length, stretch->bytesFrom(gpa));
    gpa += covered;
    length -= covered;
  }
  return true;
}

std::vector<Reservation::Share> Reservation::stretches() {
  std::vector<Share> all{find(0)};
  const std::shared_lock lock(mutex_);
  for (const auto& [start, stretch] : others_) all.push_back(stretch);
  return all;
}

Failure Reservation::addStretch(uint64_t gpa, uint64_t length) {
  const auto next = others_.lower_bound(gpa);
  const bool isTaken = find(gpa) != nullptr || (next != others_.end() && next->first - gpa < length);
  if (isTaken) return {EINVAL, "plan", "a part of the stretch is reserved already"};
  auto stretch = std::make_shared<HostRange>();
  if (const Failure failure = HostRange::reserve(length, name_, *stretch, gpa)) return failure;
  const std::lock_guard lock(mutex_);
  others_.emplace(gpa, std::move(stretch));
  return kDone;
}

void Reservation::removeStretch(uint64_t gpa) {
  // Whose last share it is unmaps when nobody waits for the lock any more.
  Share gone;
  const std::lock_guard lock(mutex_);
  const auto at = others_.find(gpa);
  if (at == others_.end()) return;
  gone = std::move(at->second);
  others_.erase(at);
}

void Reservation::setBringer(std::shared_ptr<Bringer> bringer) {
  const std::lock_guard lock(mutex_);
  hasBringer_ = bringer != nullptr;
  bringer_.swap(bringer);
}

bool Reservation::bring(uint64_t gpa, uint64_t length) const {
  if (isView()) return viewed_->bring(gpa, length);
  if (!hasBringer_) return false;
  std::shared_ptr<Bringer> bringer;
  {
    const std::shared_lock lock(mutex_);
    bringer = bringer_;
  }
  return bringer != nullptr && bringer->bring(gpa, length);
}

}  // namespace membacking
