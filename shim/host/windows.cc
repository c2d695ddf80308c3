// Windows of threads: how they are opened, and shut before memory changes.
#include "host/windows.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "host/fence.h"
#include "host/host_range.h"
#include "host/limits.h"

namespace membacking {
namespace {

/// Turns of a wait for an access that end before the thread sleeps in each: the access is of one number, mostly.
constexpr int kImpatientTurns = 1000;
constexpr std::chrono::microseconds kNap{50};

bool overlap(const Window& window, uint64_t start, uint64_t end) { return window.start < end && start < window.end; }

bool contains(const Window& window, const Window& other) {
  return window.start <= other.start && other.end <= window.end && (window.isWritable || !other.isWritable);
}

/// Waits until the last access to a window that is shut has been made.
void awaitEnd(const WindowUser::Gate& gate) {
  for (int turn = 0; gate.isInUse.load(std::memory_order_acquire) != 0; turn++) {
    if (turn < kImpatientTurns) {
      std::this_thread::yield();
    } else {
      std::this_thread::sleep_for(kNap);
    }
  }
}

}  // namespace

WindowUser::WindowUser(Windows& windows, const Limits& limits) : windows_(windows), limits_(limits) {
  const std::lock_guard lock(windows_.mutex_);
  windows_.users_.push_back(this);
}

WindowUser::~WindowUser() {
  // A thread that was ended in the middle of an access is waited for, perhaps, by the holder of the mutex.
  for (Gate& gate : *gates_) gate.isInUse = 0;
  const std::lock_guard lock(windows_.mutex_);
  for (Gate& gate : *gates_) gate.isOpen = 0;
  auto& users = windows_.users_;
  users.erase(std::find(users.begin(), users.end(), this));
}

Window WindowUser::open(uint64_t gpa, bool isWrite, uint64_t partStart, uint64_t partEnd) {
  if (!canFenceAllThreads()) return {};
  const std::unique_lock lock(windows_.mutex_, std::try_to_lock);
  if (!lock.owns_lock()) return {};
  Window found = find(gpa, isWrite, partStart, partEnd);
  if (found.end == 0) return {};
  found.number = numberFor(found);
  opened_[found.number] = found;
  (*gates_)[found.number].isOpen = 1;
  return found;
}

/// Finds the memory around a byte that a window may show; its end is 0 where there is none.
Window WindowUser::find(uint64_t gpa, bool isWrite, uint64_t partStart, uint64_t partEnd) const {
  const UseMap& lasting = windows_.lasting_;
  const LimitsHold hold(limits_);
  for (const Use least : {Use::kAll, Use::kRead}) {
    const bool isWritable = least == Use::kAll;
    if (isWrite && !isWritable) break;
    Use ignored = Use::kNothing;
    const uint64_t end = hold.firstRefused(gpa, lasting.firstBelow(gpa, partEnd, least, ignored), isWritable, ignored);
    const uint64_t start = hold.startOfRun(lasting.startOfRun(partStart, gpa + 1, least), gpa + 1, least);
    // Nothing but whole pages: the rest of a page that traps is not to be seen.
    const uint64_t firstPage = pageEnd(start);
    const uint64_t endOfLast = pageStart(end);
    if (firstPage <= gpa && gpa < endOfLast) return {-1, firstPage, endOfLast, isWritable};
  }
  return {};
}

/// Shuts the windows that another contains, and gives it the number of one that is shut.
int32_t WindowUser::numberFor(const Window& next) {
  int32_t number = -1;
  for (int32_t each = 0; each < used_; each++) {
    std::atomic<int32_t>& isOpen = (*gates_)[each].isOpen;
    if (contains(next, opened_[each])) isOpen = 0;
    if (isOpen == 0) number = each;
  }
  if (number >= 0) return number;
  return used_ < kMost ? used_++ : next_++ % kMost;
}

bool Windows::isLasting(const Limits& limits, uint64_t start, uint64_t end, Use least) const {
  const std::lock_guard lock(mutex_);
  const uint64_t firstPage = pageStart(start);
  const uint64_t endOfLast = pageEnd(end);
  Use ignored = Use::kNothing;
  if (lasting_.firstBelow(firstPage, endOfLast, least, ignored) != endOfLast) return false;
  return LimitsHold(limits).firstRefused(firstPage, endOfLast, least == Use::kAll, ignored) == endOfLast;
}

WindowsShut::WindowsShut(Windows& windows, uint64_t gpa, uint64_t length, const Limits* only)
    : windows_(windows), lock_(windows.mutex_), start_(gpa), end_(gpa + length) {
  std::vector<const WindowUser::Gate*> shut;
  for (WindowUser* user : windows_.users_) {
    if (only != nullptr && &user->limits_ != only) continue;
    for (int32_t number = 0; number < user->used_; number++) {
      WindowUser::Gate& gate = (*user->gates_)[number];
      if (overlap(user->opened_[number], start_, end_) && gate.isOpen.exchange(0) != 0) shut.push_back(&gate);
    }
  }
  if (shut.empty()) return;
  fenceAllThreads();
  for (const WindowUser::Gate* gate : shut) awaitEnd(*gate);
}

}  // namespace membacking
