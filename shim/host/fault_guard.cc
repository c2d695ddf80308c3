// Guarded instructions, their table, and the process-wide handler that looks a fault up in it.
#include "host/fault_guard.h"

#include <signal.h>
#include <ucontext.h>

#include <cstdio>
#include <cstdlib>
#include <mutex>

#ifndef __x86_64__
#error "guarded instructions are known here for x86-64 only"
#endif

namespace membacking {
namespace {

// ---- The guarded instructions --------------------------------------------------------------------------------------

/// Address of an instruction that may fault, and of the one at which its thread then goes on; each as a distance from
/// the field itself.
struct GuardEntry {
  int32_t instruction;
  int32_t next;
};

/// Puts an instruction into the code and its entry into the table. R8 and R9 hold the range in which a fault is
/// expected, from the first byte to the one behind the last; R10 is 0, and after a fault the signal.
#define GUARDED(instruction)                \
  "1: " instruction "\n"                    \
  "2:\n"                                    \
  ".pushsection membacking_guards, \"a\"\n" \
  ".long 1b - .\n"                          \
  ".long 2b - .\n"                          \
  ".popsection\n"

#define GUARD_REGISTERS(start, end)              \
  register uint64_t rangeStart asm("r8") = start; \
  register uint64_t rangeEnd asm("r9") = end;     \
  register int signal asm("r10") = 0

template <typename T>
int loadAs(uint64_t hva, uint64_t& wide) {
  T value = 0;
  GUARD_REGISTERS(hva, hva + sizeof(T));
  // SAFETY: the caller vouches for the range, and a fault in it goes on behind the instruction.
  asm volatile(GUARDED("mov (%[hva]), %[value]")
               : "+r"(signal), [value] "+r"(value)
               : "r"(rangeStart), "r"(rangeEnd), [hva] "r"(hva)
               : "memory");
  wide = value;
  return signal;
}

template <typename T>
int storeAs(uint64_t hva, uint64_t wide) {
  const T value = static_cast<T>(wide);
  GUARD_REGISTERS(hva, hva + sizeof(T));
  // SAFETY: as in loadAs().
  asm volatile(GUARDED("mov %[value], (%[hva])")
               : "+r"(signal)
               : "r"(rangeStart), "r"(rangeEnd), [hva] "r"(hva), [value] "r"(value)
               : "memory");
  return signal;
}

template <typename T>
int exchangeAs(uint64_t hva, uint64_t& expected, uint64_t wide) {
  const T value = static_cast<T>(wide);
  T found = static_cast<T>(expected);
  GUARD_REGISTERS(hva, hva + sizeof(T));
  // SAFETY: as in loadAs().
  asm volatile(GUARDED("lock cmpxchg %[value], (%[hva])")
               : "+r"(signal), "+a"(found)
               : "r"(rangeStart), "r"(rangeEnd), [hva] "r"(hva), [value] "r"(value)
               : "memory", "cc");
  expected = found;
  return signal;
}

/// Copies between the caller's memory and the guarded range that begins at `hva`. REP MOVSB stops at a fault with what
/// is left in RCX, having changed nothing beyond.
int copy(uint8_t* to, const uint8_t* from, uint64_t hva, uint64_t length, uint64_t& done) {
  uint64_t left = length;
  GUARD_REGISTERS(hva, hva + length);
  // SAFETY: as in loadAs(); the other side is the caller's own memory.
  asm volatile(GUARDED("rep movsb")
               : "+r"(signal), "+D"(to), "+S"(from), "+c"(left)
               : "r"(rangeStart), "r"(rangeEnd)
               : "memory");
  done = length - left;
  return signal;
}

// ---- The handler ---------------------------------------------------------------------------------------------------

// Ends of the table, by the linker's names.
extern "C" const GuardEntry __start_membacking_guards[] __attribute__((visibility("hidden")));
extern "C" const GuardEntry __stop_membacking_guards[] __attribute__((visibility("hidden")));

uint64_t targetOf(const int32_t& distance) { return reinterpret_cast<uint64_t>(&distance) + distance; }

/// Whether the fault is one of a guarded instruction in its range: then the thread goes on behind it.
bool skipGuarded(int signal, const siginfo_t& info, greg_t* registers) {
  // A positive si_code is the kernel's own: a real fault, not a signal that somebody sent.
  if (info.si_code <= 0) return false;
  const auto address = reinterpret_cast<uint64_t>(info.si_addr);
  // Memory that has failed is named by its page.
  const uint64_t bytes = info.si_code == BUS_MCEERR_AR && signal == SIGBUS ? uint64_t{1} << info.si_addr_lsb : 1;
  const auto start = static_cast<uint64_t>(registers[REG_R8]);
  const auto end = static_cast<uint64_t>(registers[REG_R9]);
  for (const GuardEntry* entry = __start_membacking_guards; entry != __stop_membacking_guards; entry++) {
    if (targetOf(entry->instruction) != static_cast<uint64_t>(registers[REG_RIP])) continue;
    if (address + bytes <= start || address >= end) return false;
    registers[REG_R10] = signal;
    registers[REG_RIP] = static_cast<greg_t>(targetOf(entry->next));
    return true;
  }
  return false;
}

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
  // SAFETY: for SA_SIGINFO the kernel gives the interrupted thread's context, which sigreturn puts back.
  if (skipGuarded(signal, *info, static_cast<ucontext_t*>(context)->uc_mcontext.gregs)) return;
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
