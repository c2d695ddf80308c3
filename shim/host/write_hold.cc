// Holds of writes: a mutex for those that wait, and a count for those that come late.

#include "host/write_hold.h"

#include <atomic>

namespace membacking {
namespace {

std::atomic<uint64_t> endedHolds{0};

/// Never destroyed: threads may still use it while the process exits.
std::mutex& holdMutex() {
  static auto* mutex = new std::mutex;
  return *mutex;
}

}  // namespace

WriteHold::WriteHold() : lock_(holdMutex()) {}

WriteHold::~WriteHold() { endedHolds.fetch_add(1); }

uint64_t WriteHold::ended() { return endedHolds.load(); }

bool WriteHold::hasEndedSince(uint64_t endedBefore) {
  const std::lock_guard lock(holdMutex());
  return endedHolds.load() != endedBefore;
}

}  // namespace membacking
