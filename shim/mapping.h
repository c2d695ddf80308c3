// The only file that changes this process's address space. A Mapping owns one range of it, whole: what it
// replaces by MAP_FIXED lies inside, which every function asserts, and no hole is ever left in it.
#pragma once

#include <cstdint>

#include "failure.h"

namespace membacking {

/// In bytes. Host page and granularity of every command.
inline constexpr uint64_t kPageSize = 4096;

class Mapping {
 public:
  Mapping() = default;
  Mapping(Mapping&& other) noexcept;
  Mapping& operator=(Mapping&& other) noexcept;
  ~Mapping();

  /// `size` bytes of address space without memory or access, 2 MiB-aligned. `size` is whole pages, not 0.
  static Failure reserve(uint64_t size, Mapping& result);
  /// The first `size` bytes of what `fd` shows, readable and writable.
  static Failure shareWhole(int fd, uint64_t size, Mapping& result);

  uint64_t base() const { return base_; }
  uint64_t size() const { return size_; }
  /// Whether a range that is not empty lies inside; `offset + length` may overflow.
  bool contains(uint64_t offset, uint64_t length) const {
    return length != 0 && offset < size_ && length <= size_ - offset;
  }

  // The rest takes ranges that the caller has proved to lie inside, in whole pages. Each is all or nothing,
  // except where it says otherwise. `protection` is PROT_READ and PROT_WRITE together or less.

  /// Replaces the range by `fd` from `fileOffset` on, shared, in one step.
  Failure mapShared(uint64_t offset, uint64_t length, int protection, int fd, uint64_t fileOffset);
  /// Replaces the range by a copy-on-write image of `fd` from its start, without access.
  Failure mapCopyOnWrite(uint64_t offset, uint64_t length, int fd);
  /// Makes the range plain reservation again: no memory, no access.
  Failure clear(uint64_t offset, uint64_t length);
  /// Changes the protection. Over pieces of different kinds the kernel may fail after the first: then repeat
  /// with the old protection.
  Failure protect(uint64_t offset, uint64_t length, int protection);
  /// Moves the range's private pages, contents kept, to another mapping, where it replaces what is there; the
  /// range becomes plain reservation. The range's protection goes with it. When it fails, the pages are where
  /// they were, and the destination is as it was if it was plain reservation.
  Failure moveTo(Mapping& target, uint64_t targetOffset, uint64_t offset, uint64_t length);

  /// Shows `name` (a string literal) in /proc/self/maps for anonymous memory, where the kernel can.
  void name(const char* name);

 private:
  Mapping(uint64_t base, uint64_t size, uint64_t mappedSize)
      : base_(base), size_(size), mappedSize_(mappedSize) {}

  // SAFETY: no more than an address: who touches it has proved the range first.
  void* at(uint64_t offset) const { return reinterpret_cast<void*>(base_ + offset); }
  void proveInside(uint64_t offset, uint64_t length) const;
  Failure replace(uint64_t offset, uint64_t length, int protection, int flags, int fd, uint64_t fileOffset);
  Failure moveOnePiece(Mapping& target, uint64_t targetOffset, uint64_t offset, uint64_t length);
  void closeHole(uint64_t offset, uint64_t length);
  uint64_t lengthOfOnePiece(uint64_t offset, uint64_t length) const;

  uint64_t base_ = 0;
  uint64_t size_ = 0;
  /// `size_` and the guard page behind a reservation.
  uint64_t mappedSize_ = 0;
};

}  // namespace membacking
