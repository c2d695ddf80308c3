// Eventfds: the calls. Those of others may block, and stay as they are: a read asks not to wait.

#include "host/event_fd.h"

#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include <string>
#include <utility>

namespace membacking {

Failure EventFd::create(std::shared_ptr<EventFd>& result) {
  auto made = std::make_shared<EventFd>();
  made->fd_ = FileDescriptor(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!made->fd_.isOpen()) return failedCall("eventfd");
  result = std::move(made);
  return kDone;
}

/// Whether the system says that a descriptor is of something else.
static bool isOfSomethingElse(int fd) {
  char target[64];
  const ssize_t length = ::readlink(("/proc/self/fd/" + std::to_string(fd)).c_str(), target, sizeof target);
  return length >= 0 && std::string(target, static_cast<size_t>(length)) != "anon_inode:[eventfd]";
}

Failure EventFd::adopt(int fd, std::shared_ptr<EventFd>& result) {
  auto made = std::make_shared<EventFd>();
  made->fd_ = FileDescriptor::duplicate(fd);
  if (!made->fd_.isOpen()) return failedCall("fcntl");
  if (isOfSomethingElse(made->fd())) return {EINVAL, "readlink", "the descriptor is no eventfd's"};
  result = std::move(made);
  return kDone;
}

Failure EventFd::signal(uint64_t count) {
  return ::write(fd(), &count, sizeof count) == sizeof count ? kDone : failedCall("write");
}

Failure EventFd::take(uint64_t& count) {
  constexpr int kNoWait = 8;  // RWF_NOWAIT
  constexpr long kHere = -1;
  count = 0;
  iovec into = {&count, sizeof count};
  const long done = ::fcntl(fd(), F_GETFL) & O_NONBLOCK
                        ? ::read(fd(), &count, sizeof count)
                        : ::syscall(SYS_preadv2, fd(), &into, 1, kHere, kHere, kNoWait);
  return done >= 0 || errno == EAGAIN ? kDone : failedCall("read");
}

}  // namespace membacking
