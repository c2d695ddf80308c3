// Invariants: promises that the shim makes to itself, checked in release too. A broken one ends the process, because
// memory that is mapped or accessed at a wrong place harms others. What comes from outside is refused with a Failure
// instead.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace membacking {

/// Prints what is broken, and where, and ends the process.
[[noreturn]] inline void endBroken(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "membacking: %s:%d: broken invariant: %s\n", file, line, condition);
  std::abort();
}

#define INVARIANT(condition) \
  (__builtin_expect(!!(condition), 1) ? void() : membacking::endBroken(#condition, __FILE__, __LINE__))

}  // namespace membacking
