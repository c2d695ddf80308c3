// Headroom: the count of this process's mappings, and the ballast that is given up while something is taken back.
#include "host/headroom.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <limits>
#include <mutex>

#include "host/fd.h"
#include "host/host_range.h"
#include "host/invariant.h"

namespace membacking {
namespace {

/// Mappings held for taking back. Neighbouring pages differ in protection, so that each is a mapping of its own.
constexpr uint64_t kHeld = 512;
/// Mappings left to V8 and to whoever else is in the process.
constexpr uint64_t kReserve = 2048;
/// Mappings that one command adds at most: at each end of what it changes, one is cut in two.
constexpr uint64_t kMostAdded = 4;

/// Commands that are allowed without a count, although they add nothing: others make mappings too.
constexpr uint64_t kMostUncounted = uint64_t{1} << 18;

/// HVAs at which commands were allowed mappings since these were counted: each mapping begins at one of them, or began
/// there when they were counted. Where two have one place, the first is forgotten.
class Cuts {
 public:
  bool has(uint64_t hva) const { return hvas_[placeOf(hva)] == hva; }
  void add(uint64_t hva) { hvas_[placeOf(hva)] = hva; }
  void clear() { hvas_.fill(0); }

 private:
  static constexpr int kBits = 14;
  /// Place by the golden ratio, which spreads what follows in equal steps.
  static size_t placeOf(uint64_t hva) { return hva / kPageSize * 0x9e3779b97f4a7c15 >> (64 - kBits); }

  std::array<uint64_t, size_t{1} << kBits> hvas_{};
};

/// State of the whole process.
struct Ballast {
  std::mutex mutex;
  /// Number of Headrooms. The ballast is held while there is none.
  int users = 0;
  HostRange pages;
  /// Mappings that may be added before they are counted again, and commands until then.
  uint64_t uncounted = 0;
  uint64_t commands = 0;
  Cuts cuts;

  /// Takes the ballast, or a part of it, if it is not held, unless it would be V8's. Returns the mappings that are left
  /// beside it. With the mutex.
  uint64_t hold() {
    const MappingCount count = countMappings();
    const uint64_t left = count.limit - count.now;
    if (pages.size() != 0 || left < kHeld + kReserve) return left;
    if (HostRange::reserve(kHeld * kPageSize, "", pages)) return left;
    for (uint64_t page = 0; page < kHeld; page += 2) {
      if (pages.protect(page * kPageSize, kPageSize, Use::kRead)) break;
    }
    return left - kHeld;
  }

  /// Allows a command what it may add. With the mutex.
  Failure spend(uint64_t most, bool unmaps) {
    INVARIANT(most <= kMostAdded);
    if (uncounted < most || commands == 0) {
      const uint64_t left = hold();
      if (left < (unmaps ? kReserve / 2 : kReserve) + kMostAdded) {
        return {ENOMEM, "plan", "the mappings that are left must stay free for the JavaScript engine"};
      }
      // Fewer than would use all of it up: others make mappings too.
      const uint64_t spare = left < kReserve ? 0 : left - kReserve;
      uncounted = std::max(most, spare / 2);
      commands = kMostUncounted;
      cuts.clear();
    }
    uncounted -= most;
    commands--;
    return kDone;
  }
};

/// Never destroyed: threads may still use it while the process exits.
Ballast& ballast() {
  static auto* ballast = new Ballast;
  return *ballast;
}

/// Lines of a file; 0 where there is none. Allocates nothing, as readNumber(): there may be nothing to allocate.
uint64_t countLines(const char* path) {
  const FileDescriptor file(::open(path, O_RDONLY | O_CLOEXEC));
  char text[16 * 1024];
  uint64_t lines = 0;
  for (ssize_t got = 0; (got = ::read(file.get(), text, sizeof text)) > 0;) {
    lines += static_cast<uint64_t>(std::count(text, text + got, '\n'));
  }
  return lines;
}

/// Number that a file begins with; 0 where there is none.
uint64_t readNumber(const char* path) {
  const FileDescriptor file(::open(path, O_RDONLY | O_CLOEXEC));
  char text[32] = {};
  if (::read(file.get(), text, sizeof text - 1) <= 0) return 0;
  return std::strtoull(text, nullptr, 10);
}

}  // namespace

Headroom::Headroom() {
  std::lock_guard lock(ballast().mutex);
  if (ballast().users++ == 0) ballast().pages = HostRange();
}

Headroom::~Headroom() {
  std::lock_guard lock(ballast().mutex);
  INVARIANT(ballast().users > 0);
  if (--ballast().users != 0) return;
  static_cast<void>(ballast().hold());
  // Where there is no room for it now, the next command looks again.
  if (ballast().pages.size() == 0) ballast().uncounted = 0;
}

MappingCount countMappings() {
  const uint64_t now = countLines("/proc/self/maps");
  const uint64_t limit = readNumber("/proc/sys/vm/max_map_count");
  return {now, limit == 0 ? std::numeric_limits<uint64_t>::max() : std::max(limit, now)};
}

Failure spendMappings(uint64_t most, bool unmaps) {
  std::lock_guard lock(ballast().mutex);
  return ballast().users > 0 ? kDone : ballast().spend(most, unmaps);
}

Failure spendMappingsAt(uint64_t start, uint64_t end, bool unmaps) {
  Ballast& ballast = membacking::ballast();
  std::lock_guard lock(ballast.mutex);
  if (ballast.users > 0) return kDone;
  if (const Failure failure = ballast.spend(2, unmaps)) return failure;
  for (const uint64_t hva : {start, end}) {
    // What was allowed once is not spent again.
    if (ballast.cuts.has(hva)) ballast.uncounted++;
    ballast.cuts.add(hva);
  }
  return kDone;
}

}  // namespace membacking
