// Threads that use guest memory by windows and under locks while another one changes it: a program of its own, for
// ThreadSanitizer, which ends it when two threads touch the same bytes without an order between them. Never shipped.

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <thread>
#include <vector>

#include "host/limits.h"
#include "host/locks.h"
#include "host/windows.h"
#include "mapper/shown_locks.h"
#include "sinks/client_locks.h"

using namespace membacking;

namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kPages = 8;
constexpr uint64_t kEnd = kPages * kPage;
/// Pages from here on are written by those who lock them, and no window shows them: that two threads of the guest's
/// devices write to one page is no matter of ours.
constexpr uint64_t kFirstLocked = kPages - 2;

/// Guest memory, one word a page; nobody reads kGone.
std::array<uint32_t, kPages> memory{};
/// Words that a client of another process has too.
std::array<uint32_t, 2> shared{};
constexpr uint32_t kGone = UINT32_MAX;

std::atomic<bool> isOver{false};
std::atomic<uint64_t> wrong{0};

/// Counts of what happened, so that nobody is content with nothing.
struct Counts {
  std::atomic<uint64_t> accesses{0};
  std::atomic<uint64_t> late{0};
  std::atomic<uint64_t> locks{0};
  std::atomic<uint64_t> refusals{0};
  std::atomic<uint64_t> changes{0};
} counts;

/// Touches a page by the steps of an access of JavaScript: plain stores and loads in this order, without a fence.
bool touch(WindowUser::Gate& gate, uint64_t page) {
  gate.isInUse.store(1, std::memory_order_relaxed);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  const bool isOpen = gate.isOpen.load(std::memory_order_relaxed) != 0;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  if (isOpen && memory[page] == kGone) wrong++;
  // A plain store on x86-64.
  gate.isInUse.store(0, std::memory_order_release);
  return isOpen;
}

void readByWindows(Windows& windows, const Limits& limits) {
  while (!isOver) {
    WindowUser user(windows, limits);
    Window window;
    for (uint64_t turn = 0; turn < 20'000 && !isOver; turn++) {
      const uint64_t page = turn % kFirstLocked;
      const bool isShown = window.number >= 0 && page * kPage >= window.start && page * kPage < window.end;
      if (isShown && touch((*user.gates())[window.number], page)) {
        counts.accesses++;
      } else {
        counts.late++;
        window = user.open(page * kPage, false, 0, kEnd);
      }
    }
  }
}

void lockAndWrite(Locks& locks, uint64_t page, uint32_t& word) {
  const Locks::Range range{page * kPage, (page + 1) * kPage};
  int owner = 0;
  for (uint64_t turn = 0; !isOver; turn++) {
    const uint64_t id = locks.add({{range}, true, "holder", &owner});
    if (id == 0) {
      counts.refusals++;
      continue;
    }
    counts.locks++;
    if (turn % 3 != 0 || locks.show(id, [] {})) word = static_cast<uint32_t>(turn & 0xffff);
    if (turn % 2 != 0) {
      locks.remove(id);
    } else {
      locks.removeAllOf(&owner);
    }
  }
}

/// Changes a page as a plan does: unless it is locked, its windows are shut first.
void change(Windows& windows, Limits& limits, Locks& locks, uint64_t page) {
  const Locks::Range range{page * kPage, (page + 1) * kPage};
  locks.gate()->isShut = 1;
  uint64_t bar = 0;
  bool isFree = true;
  if (locks.gate()->users != 0) {
    locks.gate()->isShut = 0;
    bar = locks.bar(range, Use::kNothing);
    isFree = locks.brokenBy(range, Use::kNothing).empty();
  }
  if (isFree) {
    WindowsShut shut(windows, range.start, kPage);
    memory[page] = kGone;
    limits.set({range.start, range.end, page % 2 == 0 ? Use::kAll : Use::kRead});
    memory[page] = static_cast<uint32_t>(page);
    shut.setLasting(page < kFirstLocked ? Use::kAll : Use::kNothing);
    counts.changes++;
  }
  locks.gate()->isShut = 0;
  if (bar != 0) locks.unbar(bar);
}

/// Changes a page that another process has too, unless that has locked it.
void changeShared(ClientLocks& locks, uint64_t page) {
  const Locks::Range range{page * kPage, (page + 1) * kPage};
  if (locks.shut()) {
    shared[page] = kGone;
    counts.changes++;
    locks.open();
    return;
  }
  const uint64_t bar = locks.bar(range, Use::kNothing);
  if (locks.brokenBy(range, Use::kNothing).empty()) {
    shared[page] = kGone;
    counts.changes++;
  }
  locks.unbar(bar);
}

}  // namespace

int main() {
  Windows windows;
  Limits limits(nullptr);
  Locks locks;
  for (uint64_t page = 0; page < kPages; page++) change(windows, limits, locks, page);
  std::vector<std::thread> threads;
  for (int reader = 0; reader < 2; reader++) threads.emplace_back([&] { readByWindows(windows, limits); });
  for (uint64_t page = kFirstLocked; page < kPages; page++) {
    threads.emplace_back([&, page] { lockAndWrite(locks, page, memory[page]); });
  }
  // The locks of a client, and what its manager makes of them: both sides of one table.
  const auto table = std::make_shared<LockTable>();
  Locks theirs;
  theirs.setWitness(std::make_shared<ShownLocks>(table), {table, &table->gate});
  ClientLocks ours(table);
  for (uint64_t page = 0; page < 2; page++) {
    threads.emplace_back([&, page] { lockAndWrite(theirs, page, shared[page]); });
  }
  for (uint64_t turn = 0; turn < 3000 || counts.locks < 1000 || counts.refusals == 0; turn++) {
    change(windows, limits, locks, turn % kPages);
    changeShared(ours, turn % 2);
    if (turn % 16 == 0) std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
  isOver = true;
  for (std::thread& thread : threads) thread.join();
  std::printf("%llu accesses, %llu late, %llu locks, %llu refused, %llu changes, %llu wrong\n",
              static_cast<unsigned long long>(counts.accesses), static_cast<unsigned long long>(counts.late),
              static_cast<unsigned long long>(counts.locks), static_cast<unsigned long long>(counts.refusals),
              static_cast<unsigned long long>(counts.changes), static_cast<unsigned long long>(wrong));
  return wrong == 0 ? 0 : 1;
}
