// Windows: ranges of a VA space that threads read and write by plain instructions, as JavaScript does with an array.
// Nothing but a change of the VA space can take their memory away, and whoever makes one shuts them first:
//
//     the thread that has the window              the thread that changes the VA space
//
//     isInUse = 1                                 isOpen = 0
//       (no fence)                                  (a fence in every thread)
//     isOpen == 0 ? then the guarded way          isInUse == 1 ? wait
//     the access                                  the change
//     isInUse = 0
//
// The fence falls between two steps of the thread. If it had stored `isInUse` before, the changer sees that and waits.
// If not, what it loads of `isOpen` comes after the fence, and is 0. So no access to what was there is made after the
// change has begun. A thread whose steps stay in this order in its code needs nothing else.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "host/use_map.h"

namespace membacking {

class Limits;
class Windows;

/// A window that was opened.
struct Window {
  /// Number among those of its user; -1: none was opened.
  int32_t number = -1;
  /// Range [start, end) of GPAs, whole pages.
  uint64_t start = 0;
  uint64_t end = 0;
  bool isWritable = false;
};

/// Windows that one thread has in a VA space, or in a view of one with these limits. The VA space, and the view, live
/// longer.
class WindowUser {
 public:
  static constexpr int32_t kMost = 256;
  /// Words that JavaScript reads and writes.
  struct Gate {
    std::atomic<int32_t> isInUse{0};
    std::atomic<int32_t> isOpen{0};
  };
  using Gates = std::array<Gate, kMost>;
  static_assert(std::atomic<int32_t>::is_always_lock_free && sizeof(Gates) == 8 * kMost, "JavaScript sees numbers");

  WindowUser(Windows& windows, const Limits& limits);
  ~WindowUser();
  WindowUser(const WindowUser&) = delete;

  /// Gates of the windows, by their numbers.
  const std::shared_ptr<Gates>& gates() const { return gates_; }

  /// Opens the largest window that has all of a page, within a part of one stretch, and shuts those that it contains.
  /// Where all are open, another one's number is taken. None is opened where memory may go in another way than by a
  /// change; where one is being made; and where the machine has no fences. On the thread of the user.
  Window open(uint64_t gpa, bool isWrite, uint64_t partStart, uint64_t partEnd);

 private:
  friend class WindowsShut;

  Window find(uint64_t gpa, bool isWrite, uint64_t partStart, uint64_t partEnd) const;
  int32_t numberFor(const Window& next);

  Windows& windows_;
  const Limits& limits_;
  const std::shared_ptr<Gates> gates_ = std::make_shared<Gates>();
  // Guarded by the mutex of `windows_`.
  std::array<Window, kMost> opened_;
  /// Number of the windows that were opened, up to which all are open or were.
  int32_t used_ = 0;
  /// Number that is taken next where all are open.
  int32_t next_ = 0;
};

/// Windows of one VA space and its views, and the memory that they may show.
class Windows {
 public:
  /// Whether all of a range is memory that stays until a change, and whole pages of it may be used so under these
  /// limits. Waits while something changes.
  bool isLasting(const Limits& limits, uint64_t start, uint64_t end, Use least) const;

 private:
  friend class WindowUser;
  friend class WindowsShut;

  /// Held while anything changes, so that none is opened.
  mutable std::mutex mutex_;
  std::vector<WindowUser*> users_;
  /// Memory that stays until a change.
  UseMap lasting_{Use::kNothing};
};

/// A change of a range: its windows are shut and their last accesses made, and none is opened in all of the VA space,
/// until it ends.
class WindowsShut {
 public:
  /// `only`: limits that change; the windows of users with others stay open. Null: all.
  WindowsShut(Windows& windows, uint64_t gpa, uint64_t length, const Limits* only = nullptr);
  WindowsShut(const WindowsShut&) = delete;

  /// Says what memory of the range stays now until the next change: with this use.
  void setLasting(Use use) { windows_.lasting_.set(start_, end_, use); }

 private:
  Windows& windows_;
  const std::lock_guard<std::mutex> lock_;
  const uint64_t start_;
  const uint64_t end_;
};

}  // namespace membacking
