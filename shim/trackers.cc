// Trackers of dirty pages: the watch begins with the first of them, and ends with the last.

#include "trackers.h"

#include <atomic>
#include <cerrno>
#include <utility>

namespace membacking {

Trackers::~Trackers() {
  while (!trackers_.empty()) end(*trackers_.begin());
}

Failure Trackers::begin(const std::vector<Command>& shown, WatchMethod method, uint32_t& tracker) {
  static std::atomic<uint32_t> last{0};
  if (watch_ == nullptr) {
    if (const Failure failure = watch(shown, method)) {
      unwatch();
      return failure;
    }
  } else if (watch_->method != method) {
    return {EBUSY, "ioctl", "the memory is tracked by another method"};
  } else {
    // What was written before is not dirty for the new one.
    targets_.eachSink([](Sink& sink) { sink.noteWritten(); });
  }
  tracker = ++last;
  trackers_.insert(tracker);
  targets_.eachObject([&](uint32_t, MemoryObject& object) { object.dirty.addTracker(tracker); });
  return kDone;
}

/// Begins to watch all VA spaces.
Failure Trackers::watch(const std::vector<Command>& shown, WatchMethod method) {
  std::shared_ptr<Pager> pager;
  targets_.eachObject([&](uint32_t, const MemoryObject& object) {
    if (object.lazy != nullptr) pager = object.lazy->pager;
  });
  std::unique_ptr<WriteWatch> opened;
  if (const Failure failure = WriteWatch::open(method, std::move(pager), opened)) return failure;
  watch_ = std::move(opened);
  targets_.eachSink([this](Sink& sink) { sinkCame(sink); });
  for (const Command& command : shown) {
    Sink* sink = targets_.sink(command.sink);
    if (sink == nullptr) return invalid("there is no such sink");
    if (const Failure failure = sink->watchShown(command, targets_)) return failure;
  }
  return kDone;
}

void Trackers::unwatch() {
  targets_.eachSink([](Sink& sink) { sink.setWatch(nullptr); });
  watch_.reset();
}

void Trackers::end(uint32_t tracker) {
  if (trackers_.erase(tracker) == 0) return;
  targets_.eachObject([&](uint32_t, MemoryObject& object) { object.dirty.removeTracker(tracker); });
  if (trackers_.empty()) unwatch();
}

Failure Trackers::collect(uint32_t tracker, bool isLooking, std::vector<Dirty>& dirty) {
  if (trackers_.count(tracker) == 0) return {EINVAL, "plan", "there is no such tracker"};
  if (isLooking) targets_.eachSink([](Sink& sink) { sink.noteWritten(); });
  targets_.eachObject([&](uint32_t id, MemoryObject& object) {
    dirty.push_back({id, object.dirty.take(tracker)});
  });
  return kDone;
}

std::vector<uint32_t> Trackers::unwatched() const {
  std::set<const MemoryObject*> objects;
  targets_.eachSink([&](Sink& sink) { sink.eachUnwatched([&](const MemoryObject& each) { objects.insert(&each); }); });
  std::vector<uint32_t> ids;
  targets_.eachObject([&](uint32_t id, const MemoryObject& object) {
    if (objects.count(&object) != 0) ids.push_back(id);
  });
  return ids;
}

void Trackers::sinkCame(Sink& sink) {
  if (watch_ != nullptr) sink.setWatch(watch_);
}

void Trackers::objectCame(MemoryObject& object) {
  for (const uint32_t tracker : trackers_) object.dirty.addTracker(tracker);
}

void Trackers::objectGoes(MemoryObject& object) {
  for (const uint32_t tracker : trackers_) object.dirty.removeTracker(tracker);
}

}  // namespace membacking
