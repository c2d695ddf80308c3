// Failures below the JavaScript boundary: values, never exceptions.
#pragma once

#include <cerrno>
#include <cstdint>

namespace membacking {

/// Outcome of something that may fail.
struct [[nodiscard]] Failure {
  /// Positive errno; 0 when nothing failed.
  int error = 0;
  /// The call that failed, as in its manual page; "plan" for a record that was refused before any call.
  const char* syscall = nullptr;
  /// Cause beyond the errno, or null. A string literal.
  const char* reason = nullptr;
  /// Whether a part was done, so that the range may show something else than before; otherwise nothing has changed.
  bool isHalfDone = false;
  /// Bytes, from the range's start on, whose pages have moved before the failure. Not 0 only if `isHalfDone`.
  uint64_t moved = 0;

  explicit operator bool() const { return error != 0; }
};

inline constexpr Failure kDone{};

/// Adds to `failure` that a part was done, and how many bytes have moved.
inline Failure halfDone(Failure failure, uint64_t moved = 0) {
  failure.isHalfDone = true;
  failure.moved = moved;
  return failure;
}

/// Failure that `errno` describes now, of the call named `syscall`.
inline Failure failedCall(const char* syscall) { return {errno, syscall, nullptr}; }

}  // namespace membacking
