// Other processes: the calls, by their numbers, which are newer than some C libraries.

#include "host/process.h"

#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace membacking {
namespace {

// Numbers are the same on every architecture.
constexpr long kPidfdSendSignal = 424;
constexpr long kPidfdOpen = 434;
constexpr idtype_t kByPidfd = static_cast<idtype_t>(3);  // P_PIDFD

}  // namespace

Failure Process::open(pid_t pid, Process& result) {
  result.fd_ = FileDescriptor(static_cast<int>(::syscall(kPidfdOpen, pid, 0)));
  return result.fd_.isOpen() ? kDone : failedCall("pidfd_open");
}

bool Process::isDead() const {
  pollfd one = {fd(), POLLIN, 0};
  return ::poll(&one, 1, 0) > 0;
}

bool Process::killChild() const {
  siginfo_t facts = {};
  // Asks only: whoever has started it is told of its end as ever.
  if (::waitid(kByPidfd, static_cast<id_t>(fd()), &facts, WEXITED | WNOHANG | WNOWAIT) != 0) return false;
  return ::syscall(kPidfdSendSignal, fd(), SIGKILL, nullptr, 0) == 0;
}

}  // namespace membacking
