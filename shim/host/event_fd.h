// Eventfds: counters in the kernel that wake who waits for them.
#pragma once

#include <cstdint>
#include <memory>

#include "host/failure.h"
#include "host/fd.h"

namespace membacking {

/// An eventfd, by a descriptor of its own.
class EventFd {
 public:
  /// Makes one whose count is 0.
  static Failure create(std::shared_ptr<EventFd>& result);
  /// Makes one of a duplicate of the caller's descriptor. EINVAL: it is none of an eventfd.
  static Failure adopt(int fd, std::shared_ptr<EventFd>& result);

  int fd() const { return fd_.get(); }

  /// Adds to the count. EINVAL, EAGAIN: there is no such count.
  Failure signal(uint64_t count);
  /// Takes the count, at once: 0 where nobody has signalled.
  Failure take(uint64_t& count);

 private:
  FileDescriptor fd_;
};

}  // namespace membacking
