// Guarded accesses to memory that may not be there: a fault (SIGSEGV, SIGBUS) is a return value, and leaves the thread
// as it was.
//
// Each access is one instruction, listed in a table with the place behind it. The process-wide handler looks the
// interrupted instruction up; for one of the table it puts the signal into the interrupted context, moves it behind the
// instruction, and returns. So sigreturn gives the thread back all that the kernel changed to call the handler: rights
// of protection keys (PKRU), signal mask, alternate stack, floating-point control words. Without a fault nothing is
// done at all. Every other fault goes on to the handler that was installed before (V8's, for Wasm traps), unchanged.
//
// A program that installs its own handler later, without passing signals on, takes this protection away.
#pragma once

#include <signal.h>

#include <cstdint>

namespace membacking {

/// Installs the handlers, once per process, before the first guarded access.
void installFaultGuard();

/// Catcher of the bus errors that a hypervisor sends to the thread that runs a guest, which touches memory that has
/// failed or is lost. For a thread that does nothing else meanwhile; after installFaultGuard().
class BusErrorCatcher {
 public:
  BusErrorCatcher();
  ~BusErrorCatcher();
  BusErrorCatcher(const BusErrorCatcher&) = delete;

  bool hasCaught() const { return hasCaught_ != 0; }

 private:
  friend bool catchBusError(int signal, int code);

  volatile sig_atomic_t hasCaught_ = 0;
};

// Numbers have 1, 2, 4 or 8 `bytes`, little-endian; aligned ones are single-copy atomic. The result is 0, or the signal
// of a fault at [hva, hva + bytes).

int guardedLoad(uint64_t hva, uint32_t bytes, uint64_t& value);
int guardedStore(uint64_t hva, uint32_t bytes, uint64_t value);
/// Stores `value` if `expected` is there; `expected` becomes the number that was there. The page has been written to in
/// either case. `hva` is a multiple of `bytes`.
int guardedExchange(uint64_t hva, uint32_t bytes, uint64_t& expected, uint64_t value);

// Copies go upwards, byte by byte as far as anybody can tell: after a fault exactly the first `done` bytes were copied.
// Faults at the other side, the caller's own memory, are not guarded.

int guardedRead(uint8_t* into, uint64_t hva, uint64_t length, uint64_t& done);
int guardedWrite(uint64_t hva, const uint8_t* from, uint64_t length, uint64_t& done);

}  // namespace membacking
