// How everything below the JavaScript boundary says that it failed: a value, never an exception.
#pragma once

#include <cerrno>
#include <cstdint>

namespace membacking {

struct [[nodiscard]] Failure {
  /// errno; 0 when nothing failed.
  int error = 0;
  /// The call that failed, as in its manual page; "plan" for a record that was refused before any call.
  const char* syscall = nullptr;
  /// What the caller must know beyond the errno, or null. A string literal.
  const char* reason = nullptr;
  /// Whether a part was done, so that what the range shows is no longer sure. Else what was there is there.
  bool isHalfDone = false;
  /// Of pages that move: how many bytes, from the range's start on, have moved before the failure.
  uint64_t moved = 0;

  explicit operator bool() const { return error != 0; }
};

inline constexpr Failure kDone{};

/// `failure` of something that was half done.
inline Failure halfDone(Failure failure, uint64_t moved = 0) {
  failure.isHalfDone = true;
  failure.moved = moved;
  return failure;
}

/// The failure that `errno` describes now.
inline Failure failedCall(const char* syscall) { return {errno, syscall, nullptr}; }

}  // namespace membacking
