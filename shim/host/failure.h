// How everything below the JavaScript boundary says that it failed: a value, never an exception.
#pragma once

#include <cerrno>

namespace membacking {

struct [[nodiscard]] Failure {
  /// errno; 0 when nothing failed.
  int error = 0;
  /// The call that failed, as in its manual page; "plan" for a record that was refused before any call.
  const char* syscall = nullptr;
  /// What the caller must know beyond the errno, or null. A string literal.
  const char* reason = nullptr;

  explicit operator bool() const { return error != 0; }
};

inline constexpr Failure kDone{};

/// The failure that `errno` describes now.
inline Failure failedCall(const char* syscall) { return {errno, syscall, nullptr}; }

}  // namespace membacking
