// The process-wide handler that looks a fault up in the table of guarded instructions, and the calls that use these.
#include "host/fault_guard.h"

#include <signal.h>

#include <cstdio>
#include <cstdlib>
#include <mutex>

#if defined(__x86_64__)
#include "host/guarded_x86_64.h"
#elif defined(__aarch64__)
#include "host/guarded_aarch64.h"
#else
#error "guarded instructions are known here for x86-64 and AArch64 only"
#endif

namespace membacking {
namespace {

// ---- The handler ---------------------------------------------------------------------------------------------------

/// Address of an instruction that may fault, and of the one at which its thread then goes on; each as a distance from
/// the field itself.
struct GuardEntry {
  int32_t instruction;
  int32_t next;
};

// Ends of the table, by the linker's names.
extern "C" const GuardEntry __start_membacking_guards[] __attribute__((visibility("hidden")));
extern "C" const GuardEntry __stop_membacking_guards[] __attribute__((visibility("hidden")));

uint64_t targetOf(const int32_t& distance) { return reinterpret_cast<uint64_t>(&distance) + distance; }

/// Whether the fault is one of a guarded instruction in its range: then the thread goes on behind it.
bool skipGuarded(int signal, const siginfo_t& info, GuardedThread thread) {
  // A positive si_code is the kernel's own: a real fault, not a signal that somebody sent.
  if (info.si_code <= 0) return false;
  const auto address = reinterpret_cast<uint64_t>(info.si_addr);
  // Memory that has failed is named by its page.
  const uint64_t bytes = info.si_code == BUS_MCEERR_AR && signal == SIGBUS ? uint64_t{1} << info.si_addr_lsb : 1;
  for (const GuardEntry* entry = __start_membacking_guards; entry != __stop_membacking_guards; entry++) {
    if (targetOf(entry->instruction) != thread.instruction()) continue;
    if (address + bytes <= thread.rangeStart() || address >= thread.rangeEnd()) return false;
    thread.goOn(targetOf(entry->next), signal);
    return true;
  }
  return false;
}

thread_local BusErrorCatcher* catcher = nullptr;

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

}  // namespace

/// Whether a signal of the kernel's is one that this thread's catcher waits for.
bool catchBusError(int signal, int code) {
  if (signal != SIGBUS || code <= 0 || catcher == nullptr) return false;
  catcher->hasCaught_ = 1;
  return true;
}

namespace {

void onFault(int signal, siginfo_t* info, void* context) {
  // SAFETY: for SA_SIGINFO the kernel gives the interrupted thread's context, which sigreturn puts back.
  if (skipGuarded(signal, *info, GuardedThread(static_cast<ucontext_t*>(context)->uc_mcontext))) return;
  if (catchBusError(signal, info->si_code)) return;
  passOn(signal == SIGBUS ? previousBus : previousSegv, signal, info, context);
}

void install(int signal, struct sigaction& previous) {
  struct sigaction action = {};
  action.sa_sigaction = onFault;
  // A thread that gave itself a signal stack gets to use it.
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  ::sigemptyset(&action.sa_mask);
  // Asked for first, so that `previous` is complete before a fault on another thread can need it.
  if (::sigaction(signal, nullptr, &previous) != 0 || ::sigaction(signal, &action, nullptr) != 0) {
    std::perror("membacking: sigaction");
    std::abort();
  }
}

}  // namespace

BusErrorCatcher::BusErrorCatcher() { catcher = this; }

BusErrorCatcher::~BusErrorCatcher() { catcher = nullptr; }

void installFaultGuard() {
  static std::once_flag once;
  std::call_once(once, [] {
    install(SIGSEGV, previousSegv);
    install(SIGBUS, previousBus);
  });
}

int guardedLoad(uint64_t hva, uint32_t bytes, uint64_t& value) {
  switch (bytes) {
    case 1: return loadAs<uint8_t>(hva, value);
    case 2: return loadAs<uint16_t>(hva, value);
    case 4: return loadAs<uint32_t>(hva, value);
    default: return loadAs<uint64_t>(hva, value);
  }
}

int guardedStore(uint64_t hva, uint32_t bytes, uint64_t value) {
  switch (bytes) {
    case 1: return storeAs<uint8_t>(hva, value);
    case 2: return storeAs<uint16_t>(hva, value);
    case 4: return storeAs<uint32_t>(hva, value);
    default: return storeAs<uint64_t>(hva, value);
  }
}

int guardedExchange(uint64_t hva, uint32_t bytes, uint64_t& expected, uint64_t value) {
  switch (bytes) {
    case 1: return exchangeAs<uint8_t>(hva, expected, value);
    case 2: return exchangeAs<uint16_t>(hva, expected, value);
    case 4: return exchangeAs<uint32_t>(hva, expected, value);
    default: return exchangeAs<uint64_t>(hva, expected, value);
  }
}

// SAFETY: [hva, hva + length) is the guarded range that copy() is told of.
int guardedRead(uint8_t* into, uint64_t hva, uint64_t length, uint64_t& done) {
  return copy(into, reinterpret_cast<const uint8_t*>(hva), hva, length, done);
}

// SAFETY: as in guardedRead().
int guardedWrite(uint64_t hva, const uint8_t* from, uint64_t length, uint64_t& done) {
  return copy(reinterpret_cast<uint8_t*>(hva), from, hva, length, done);
}

}  // namespace membacking
