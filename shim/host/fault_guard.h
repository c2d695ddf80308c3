// Turns SIGSEGV and SIGBUS at guest memory into a return value.
//
// A process-wide handler acts only if this thread is inside runGuarded() and the address is in the range that it
// named; every other fault goes on to the handler that was installed before (V8's, for Wasm traps), unchanged. A
// program that installs its own handler later, without passing signals on, takes this protection away.
#pragma once

#include <setjmp.h>

#include <atomic>
#include <cstdint>

namespace membacking {

struct GuardFrame {
  sigjmp_buf environment;
  /// HVA range in which a fault is expected; `end` is the first byte behind it.
  uint64_t start;
  uint64_t end;
  /// The signal that came, when one came.
  int signal;
};

/// The frame of the guarded call that this thread is in, or null. Initial-exec, because the handler reads it: the
/// other TLS models may allocate on first use; __thread, because thread_local would call an initializer.
extern __thread __attribute__((tls_model("initial-exec"))) GuardFrame* activeGuard;

/// Installs the handlers, once per process. Before the first runGuarded().
void installFaultGuard();

/// Runs `touch`, which only touches memory: no calls that take locks, no objects with destructors, as it may end at
/// any instruction. Returns 0, or the signal (SIGSEGV, SIGBUS) of a fault in [start, end).
template <typename Touch>
inline int runGuarded(uint64_t start, uint64_t end, Touch touch) {
  GuardFrame frame;
  frame.start = start;
  frame.end = end;
  // The mask need not be saved: the handlers run with SA_NODEFER and change no mask.
  if (sigsetjmp(frame.environment, 0) != 0) return frame.signal;
  activeGuard = &frame;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  touch();
  std::atomic_signal_fence(std::memory_order_seq_cst);
  activeGuard = nullptr;
  return 0;
}

}  // namespace membacking
