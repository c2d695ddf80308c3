// Signals in the threads that the shim makes.
#pragma once

#include <signal.h>

namespace membacking {

/// Blocks all signals but this thread's own faults, so that the process's signals go to other threads.
inline void leaveSignalsToOthers() {
  sigset_t set;
  ::sigfillset(&set);
  for (const int fault : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP}) ::sigdelset(&set, fault);
  ::pthread_sigmask(SIG_SETMASK, &set, nullptr);
}

}  // namespace membacking
