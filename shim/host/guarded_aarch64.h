// Guarded instructions of AArch64, for fault_guard.cc alone.
//
// X9 and X10 hold the range in which a fault is expected, from the first byte to the one behind the last; X11 is 0, and
// after a fault the signal.
#pragma once

#include <ucontext.h>

#include <cstdint>

namespace membacking {

/// Registers of an interrupted thread that a guarded instruction has its range and its signal in.
struct GuardedThread {
  explicit GuardedThread(mcontext_t& context) : context(context) {}

  uint64_t instruction() const { return context.pc; }
  uint64_t rangeStart() const { return context.regs[9]; }
  uint64_t rangeEnd() const { return context.regs[10]; }
  void goOn(uint64_t next, int signal) {
    context.regs[11] = static_cast<uint64_t>(signal);
    context.pc = next;
  }

  mcontext_t& context;
};

/// Puts an instruction into the code, and into the table with the label at which its thread goes on after a fault.
#define GUARDED(instruction, next)          \
  "1: " instruction "\n"                    \
  ".pushsection membacking_guards, \"a\"\n" \
  ".long 1b - .\n"                          \
  ".long " next " - .\n"                    \
  ".popsection\n"

#define GUARD_REGISTERS(start, end)               \
  register uint64_t rangeStart asm("x9") = start; \
  register uint64_t rangeEnd asm("x10") = end;    \
  register uint64_t signal asm("x11") = 0

/// Instructions for a number of so many bytes: suffix of loads and stores, prefix of registers, and how far the
/// comparison of a register goes.
#define FOR_EACH_WIDTH(DO) DO(1, "b", "w", ", uxtb") DO(2, "h", "w", ", uxth") DO(4, "", "w", "") DO(8, "", "x", "")

template <typename T>
int loadAs(uint64_t hva, uint64_t& wide) {
  uint64_t value = 0;
  GUARD_REGISTERS(hva, hva + sizeof(T));
  // SAFETY: the caller vouches for the range, and a fault in it goes on behind the instruction.
#define LOAD(bytes, suffix, width, extension)                                                  \
  if constexpr (sizeof(T) == bytes)                                                            \
    asm volatile(GUARDED("ldr" suffix " %" width "[value], [%[hva]]", "2f") "2:\n"             \
                 : "+r"(signal), [value] "+r"(value)                                           \
                 : "r"(rangeStart), "r"(rangeEnd), [hva] "r"(hva)                              \
                 : "memory");
  FOR_EACH_WIDTH(LOAD)
#undef LOAD
  wide = value;
  return static_cast<int>(signal);
}

template <typename T>
int storeAs(uint64_t hva, uint64_t wide) {
  GUARD_REGISTERS(hva, hva + sizeof(T));
  // SAFETY: as in loadAs().
#define STORE(bytes, suffix, width, extension)                                                 \
  if constexpr (sizeof(T) == bytes)                                                            \
    asm volatile(GUARDED("str" suffix " %" width "[value], [%[hva]]", "2f") "2:\n"             \
                 : "+r"(signal)                                                                \
                 : "r"(rangeStart), "r"(rangeEnd), [hva] "r"(hva), [value] "r"(wide)           \
                 : "memory");
  FOR_EACH_WIDTH(STORE)
#undef STORE
  return static_cast<int>(signal);
}

/// Stores in either case, what was there if that is not what was expected: so it does on x86-64, where a page that
/// cannot be written to is a fault whatever is there.
template <typename T>
int exchangeAs(uint64_t hva, uint64_t& expected, uint64_t wide) {
  uint64_t found = expected;
  uint64_t stored = 0;
  uint32_t isLost = 0;
  GUARD_REGISTERS(hva, hva + sizeof(T));
  // SAFETY: as in loadAs().
#define EXCHANGE(bytes, suffix, width, extension)                                                         \
  if constexpr (sizeof(T) == bytes)                                                                       \
    asm volatile("0:\n" GUARDED("ldaxr" suffix " %" width "[found], [%[hva]]", "2f")                      \
                 "cmp %" width "[found], %" width "[expected]" extension "\n"                             \
                 "csel %[stored], %[value], %[found], eq\n"                                               \
                 GUARDED("stlxr" suffix " %w[isLost], %" width "[stored], [%[hva]]", "2f")                \
                 "cbnz %w[isLost], 0b\n"                                                                  \
                 "2:\n"                                                                                   \
                 : "+r"(signal), [found] "+&r"(found), [stored] "+&r"(stored), [isLost] "+&r"(isLost)     \
                 : "r"(rangeStart), "r"(rangeEnd), [hva] "r"(hva), [expected] "r"(expected), [value] "r"(wide) \
                 : "memory", "cc");
  FOR_EACH_WIDTH(EXCHANGE)
#undef EXCHANGE
  expected = found;
  return static_cast<int>(signal);
}

/// Copies between the caller's memory and the guarded range that begins at `hva`: sixteen bytes at a time while there
/// are as many. Where those fault, and at the end, byte by byte, so that all before the first bad one are copied.
inline int copy(uint8_t* to, const uint8_t* from, uint64_t hva, uint64_t length, uint64_t& done) {
  uint64_t left = length;
  uint64_t low = 0;
  uint64_t high = 0;
  GUARD_REGISTERS(hva, hva + length);
  // SAFETY: as in loadAs(); the other side is the caller's own memory.
  asm volatile(
      "0:\n"
      "cmp %[left], #16\n"
      "b.lo 3f\n"
      GUARDED("ldp %[low], %[high], [%[from]]", "3f")
      GUARDED("stp %[low], %[high], [%[to]]", "3f")
      "add %[from], %[from], #16\n"
      "add %[to], %[to], #16\n"
      "sub %[left], %[left], #16\n"
      "b 0b\n"
      "3:\n"
      "mov %[signal], #0\n"
      "4:\n"
      "cbz %[left], 2f\n"
      GUARDED("ldrb %w[low], [%[from]]", "2f")
      GUARDED("strb %w[low], [%[to]]", "2f")
      "add %[from], %[from], #1\n"
      "add %[to], %[to], #1\n"
      "sub %[left], %[left], #1\n"
      "b 4b\n"
      "2:\n"
      : [signal] "+&r"(signal), [to] "+&r"(to), [from] "+&r"(from), [left] "+&r"(left), [low] "+&r"(low),
        [high] "+&r"(high)
      : "r"(rangeStart), "r"(rangeEnd)
      : "memory", "cc");
  done = length - left;
  return static_cast<int>(signal);
}

#undef GUARDED
#undef GUARD_REGISTERS
#undef FOR_EACH_WIDTH

}  // namespace membacking
