// Ranges of this process's address space. No other file changes it. A HostRange owns all of its addresses: MAP_FIXED
// replaces only what lies inside, which every function asserts, and no hole is ever left in it.
#pragma once

#include <cstdint>
#include <string>

#include "host/failure.h"
#include "host/page.h"
#include "host/use.h"

namespace membacking {

/// Owner of one range of address space, unmapped at its end; a default one owns nothing. Its offsets count from
/// `start()`, which is 0 unless it was reserved otherwise: those of a stretch of a VA space are GPAs.
class HostRange {
 public:
  HostRange() = default;
  HostRange(HostRange&& other) noexcept;
  HostRange& operator=(HostRange&& other) noexcept;
  ~HostRange();

  /// Reserves `size` bytes of address space, whole pages and not 0, without memory or access, for offsets from `start`
  /// on; aligned so that every huge page of offsets that fits in is one of addresses. /proc/self/maps shows `name`,
  /// unless it is empty, where the range ends and, where the kernel can, at all of its anonymous memory.
  static Failure reserve(uint64_t size, const std::string& name, HostRange& result, uint64_t start = 0);
  /// Maps the first `size` bytes of `fd`, shared, readable and writable.
  static Failure shareWhole(int fd, uint64_t size, HostRange& result);
  /// Whether what `fd` shows can be mapped at all, in some part: ENODEV where it cannot.
  static Failure checkMappable(int fd);

  /// Address of the first byte.
  uint64_t base() const { return base_; }
  uint64_t size() const { return size_; }
  /// Offset of the first byte.
  uint64_t start() const { return start_; }
  /// Address of the byte at an offset inside.
  uint64_t addressOf(uint64_t offset) const { return base_ + (offset - start_); }
  /// Offset of the byte at an address inside.
  uint64_t offsetOf(uint64_t address) const { return start_ + (address - base_); }
  /// Bytes from an offset inside on.
  uint64_t bytesFrom(uint64_t offset) const { return size_ - (offset - start_); }
  /// Whether a range that is not empty lies inside; `offset + length` may overflow.
  bool contains(uint64_t offset, uint64_t length) const {
    return length != 0 && offset >= start_ && offset - start_ < size_ && length <= bytesFrom(offset);
  }

  // Ranges below are whole pages inside of this one, as the caller has proved. A failure says whether a part was done.
  // Nothing is ever executable: guests execute through their own page tables.

  /// Replaces the range by `fd` from `fileOffset` on, shared, in one step. `isReserved`: huge pages are reserved for
  /// it, so that none is missing later.
  Failure mapShared(uint64_t offset, uint64_t length, Use use, int fd, uint64_t fileOffset, bool isReserved);
  /// Replaces the range by a copy-on-write image of `fd` from `fileOffset` on, readable and writable.
  Failure mapCopyOnWrite(uint64_t offset, uint64_t length, int fd, uint64_t fileOffset);
  /// Makes the range plain reservation again: no memory, no access.
  Failure clear(uint64_t offset, uint64_t length);
  /// Changes the protection. Over pieces of different kinds the kernel may fail after the first: half done then.
  Failure protect(uint64_t offset, uint64_t length, Use use);
  /// Moves the range's private pages, contents kept, to another host range, where it replaces what is there; the
  /// range becomes plain reservation. The range's protection goes with it. A failure says how much has moved: the pages
  /// behind are where they were.
  Failure moveTo(HostRange& target, uint64_t targetOffset, uint64_t offset, uint64_t length);
  /// Moves pages as moveTo does, also shared ones, and leaves what the range shows: private memory without its
  /// contents.
  Failure movePages(HostRange& target, uint64_t targetOffset, uint64_t offset, uint64_t length);

  /// Address of a range that is not empty, in whole pages, inside of this one.
  void* at(uint64_t offset, uint64_t length) const;

 private:
  HostRange(uint64_t base, uint64_t size, uint64_t mappedSize, uint64_t start)
      : base_(base), size_(size), mappedSize_(mappedSize), start_(start) {}

  Failure replace(uint64_t offset, uint64_t length, int protection, int flags, int fd, uint64_t fileOffset);
  Failure moveOnePiece(HostRange& target, uint64_t targetOffset, uint64_t offset, uint64_t length);
  bool closeHole(uint64_t offset, uint64_t length);
  uint64_t lengthOfOnePiece(uint64_t offset, uint64_t length) const;
  Failure nameEnd() const;
  void nameRange(uint64_t offset, uint64_t length) const;

  uint64_t base_ = 0;
  uint64_t size_ = 0;
  /// `size_`, and for a reservation the guard page behind it.
  uint64_t mappedSize_ = 0;
  uint64_t start_ = 0;
  /// Name of a reservation in /proc/self/maps; empty for none.
  std::string name_;
};

}  // namespace membacking
