// VA spaces: reservations that mirror an address space, stretch by stretch: HVA = base of the stretch + GPA.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <shared_mutex>
#include <string>
#include <vector>

#include "host/host_range.h"
#include "host/limits.h"
#include "host/locks.h"
#include "host/windows.h"
#include "host/write_watch.h"

namespace membacking {

/// Somebody who maps memory when it is used for the first time.
class Bringer {
 public:
  virtual ~Bringer() = default;
  /// Maps what there is in a range, and around it what is convenient. False: there is nothing new.
  virtual bool bring(uint64_t gpa, uint64_t length) = 0;
};

/// One VA space, with the limits of its use, known to the process by its token; or a view of one, which has limits and
/// a token of its own. Its first stretch, from GPA 0 on, is there as long as it is; others come and go behind that, by
/// the thread that carries out plans. Every thread may look for one.
class Reservation : public std::enable_shared_from_this<Reservation> {
 public:
  /// A stretch, whose offsets are GPAs. Whoever has a share keeps its addresses.
  using Share = std::shared_ptr<HostRange>;

  /// `size` of the first stretch in bytes, whole pages and not 0; `reach`: end of the GPAs that others may have, `size`
  /// where there are none.
  static Failure create(uint64_t size, uint64_t reach, const std::string& name, std::shared_ptr<Reservation>& result);
  /// View of a VA space, in which nothing may be used until its limits say so.
  static std::shared_ptr<Reservation> createView(std::shared_ptr<Reservation> viewed);

  /// `viewed`: VA space that it is a view of; null for a VA space.
  explicit Reservation(std::shared_ptr<Reservation> viewed);
  ~Reservation();

  bool isView() const { return viewed_ != nullptr; }
  /// The first stretch.
  const HostRange& first() const { return space().first_; }
  uint64_t reach() const { return space().reach_; }
  /// The stretch that has a byte; null where none has it.
  Share find(uint64_t gpa);
  /// The stretch that has all of a range; null where none has it.
  Share find(uint64_t gpa, uint64_t length);

  /// Whether every byte of a range is in some stretch; a range that overflows is in none.
  bool hasAddresses(uint64_t gpa, uint64_t length);

  /// All stretches, the first one first.
  std::vector<Share> stretches();

  /// Reserves a stretch of whole pages behind the first one. EINVAL: a part of it is one.
  Failure addStretch(uint64_t gpa, uint64_t length);
  /// Gives a stretch back, when the last share of it has gone; nothing where there is none.
  void removeStretch(uint64_t gpa);

  /// Asks `bringer`, from now on, for what is not mapped; null: nobody.
  void setBringer(std::shared_ptr<Bringer> bringer);
  /// Has what is not mapped of a range brought. False: there is nothing new.
  bool bring(uint64_t gpa, uint64_t length) const;

  /// Says who watches writes to what is shown; null: nobody. By the thread that carries out plans, as all that asks for
  /// it.
  void setWatch(const std::shared_ptr<WriteWatch>& watch) { watch_ = watch; }
  /// The watch, as long as there is one; else null.
  std::shared_ptr<WriteWatch> watch() const { return watch_.lock(); }

  Limits& limits() { return limits_; }
  const Limits& limits() const { return limits_; }
  Locks& locks() { return locks_; }
  /// Windows of the VA space and all its views.
  Windows& windows() { return isView() ? viewed_->windows_ : windows_; }
  uint64_t token() const { return token_; }

 private:
  const Reservation& space() const { return isView() ? *viewed_ : *this; }

  const std::shared_ptr<Reservation> viewed_;
  HostRange first_;
  uint64_t reach_ = 0;
  std::string name_;
  mutable std::shared_mutex mutex_;
  /// Stretches behind the first one, by their start: disjoint.
  std::map<uint64_t, Share> others_;
  /// Null but in a client of another process. With the mutex.
  std::shared_ptr<Bringer> bringer_;
  std::atomic<bool> hasBringer_{false};
  std::weak_ptr<WriteWatch> watch_;
  Limits limits_;
  Locks locks_;
  Windows windows_;
  uint64_t token_ = 0;
};

}  // namespace membacking
