// Signals in threads of ours.
#pragma once

#include <signal.h>

namespace membacking {

/// From now on the process's signals go to other threads than this one. Faults of its own do not.
inline void leaveSignalsToOthers() {
  sigset_t set;
  ::sigfillset(&set);
  for (const int fault : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP}) ::sigdelset(&set, fault);
  ::pthread_sigmask(SIG_SETMASK, &set, nullptr);
}

}  // namespace membacking
