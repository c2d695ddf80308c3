#include "host/fault_guard.h"

#include <signal.h>

#include <cstdio>
#include <cstdlib>
#include <mutex>

namespace membacking {

__thread GuardFrame* activeGuard = nullptr;

namespace {

struct sigaction previousSegv;
struct sigaction previousBus;

void passOn(const struct sigaction& previous, int signal, siginfo_t* info, void* context) {
  if (previous.sa_flags & SA_SIGINFO) {
    previous.sa_sigaction(signal, info, context);
  } else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
    previous.sa_handler(signal);
  } else {
    // As if this handler had never been: a fault comes again when the instruction is repeated and then ends the
    // process with the right address in the core file; a signal that was sent has to be sent again.
    ::sigaction(signal, &previous, nullptr);
    if (info->si_code <= 0) ::raise(signal);
  }
}

void onFault(int signal, siginfo_t* info, void* context) {
  GuardFrame* guard = activeGuard;
  const uint64_t address = reinterpret_cast<uint64_t>(info->si_addr);
  // A positive si_code is the kernel's own: a real fault, not a signal that somebody sent.
  if (guard != nullptr && info->si_code > 0 && address >= guard->start && address < guard->end) {
    activeGuard = nullptr;
    guard->signal = signal;
    // SAFETY: the frame is on this thread's stack below the interrupted `touch`, and runGuarded() has not returned,
    // as it clears activeGuard before. What is skipped has no destructors and holds no locks.
    siglongjmp(guard->environment, 1);
  }
  passOn(signal == SIGBUS ? previousBus : previousSegv, signal, info, context);
}

void install(int signal, struct sigaction& previous) {
  struct sigaction action = {};
  action.sa_sigaction = onFault;
  // ONSTACK: a thread that gave itself a signal stack gets to use it. NODEFER: see runGuarded().
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  ::sigemptyset(&action.sa_mask);
  // Asked for first, so that `previous` is complete before a fault on another thread can need it.
  if (::sigaction(signal, nullptr, &previous) != 0 || ::sigaction(signal, &action, nullptr) != 0) {
    std::perror("membacking: sigaction");
    std::abort();
  }
}

}  // namespace

void installFaultGuard() {
  static std::once_flag once;
  std::call_once(once, [] {
    install(SIGSEGV, previousSegv);
    install(SIGBUS, previousBus);
  });
}

}  // namespace membacking
