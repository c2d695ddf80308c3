// Guarded instructions of x86-64, for fault_guard.cc alone.
//
// R8 and R9 hold the range in which a fault is expected, from the first byte to the one behind the last; R10 is 0, and
// after a fault the signal.
#pragma once

#include <ucontext.h>

#include <cstdint>

namespace membacking {

/// Registers of an interrupted thread that a guarded instruction has its range and its signal in.
struct GuardedThread {
  explicit GuardedThread(mcontext_t& context) : registers(context.gregs) {}

  uint64_t instruction() const { return static_cast<uint64_t>(registers[REG_RIP]); }
  uint64_t rangeStart() const { return static_cast<uint64_t>(registers[REG_R8]); }
  uint64_t rangeEnd() const { return static_cast<uint64_t>(registers[REG_R9]); }
  void goOn(uint64_t next, int signal) {
    registers[REG_R10] = signal;
    registers[REG_RIP] = static_cast<greg_t>(next);
  }

  greg_t* registers;
};

/// Puts an instruction into the code and its entry into the table.
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
inline int copy(uint8_t* to, const uint8_t* from, uint64_t hva, uint64_t length, uint64_t& done) {
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

#undef GUARDED
#undef GUARD_REGISTERS

}  // namespace membacking
