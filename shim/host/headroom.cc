#include "host/headroom.h"

#include <sys/mman.h>

#include <mutex>

#include "host/mapping.h"

namespace membacking {
namespace {

/// Neighbours that differ in protection: each page counts as a mapping of its own. Some for the undoing, and some for V8,
/// which ends the process when it cannot have one.
constexpr uint64_t kMappings = 512;

struct Ballast {
  std::mutex mutex;
  /// How many Headrooms there are: without any, the ballast is held.
  int users = 0;
  Mapping pages;

  /// As much as goes; with the mutex.
  void hold() {
    if (pages.size() != 0 || Mapping::reserve(kMappings * kPageSize, "", pages)) return;
    for (uint64_t page = 0; page < kMappings; page += 2) {
      if (pages.protect(page * kPageSize, kPageSize, PROT_READ)) return;
    }
  }
};

/// Never destroyed: threads may still use it while the process exits.
Ballast& ballast() {
  static auto* ballast = new Ballast;
  return *ballast;
}

}  // namespace

Headroom::Headroom() {
  std::lock_guard lock(ballast().mutex);
  if (ballast().users++ == 0) ballast().pages = Mapping();
}

Headroom::~Headroom() {
  std::lock_guard lock(ballast().mutex);
  if (--ballast().users == 0) ballast().hold();
}

void Headroom::prepare() {
  std::lock_guard lock(ballast().mutex);
  if (ballast().users == 0) ballast().hold();
}

}  // namespace membacking
