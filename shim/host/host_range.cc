// Every system call that changes what is mapped where. See host_range.h for the invariant.

#include "host/host_range.h"

#include <sys/mman.h>
#include <sys/prctl.h>

#include <cstring>
#include <utility>

#include "host/fd.h"
#include "host/invariant.h"

// Newer than some of the system headers this builds with.
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif
#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

namespace membacking {
namespace {

constexpr uint64_t kGiantPageSize = 1024 * 1024 * 1024;
constexpr int kReservationFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;

int protectionOf(Use use) {
  switch (use) {
    case Use::kNothing:
      return PROT_NONE;
    case Use::kRead:
      return PROT_READ;
    default:
      return PROT_READ | PROT_WRITE;
  }
}

/// Whether this kernel shows names of anonymous memory. Asks it to name nothing.
bool canName() {
  static const bool can = ::prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, 0, 0, nullptr) == 0;
  return can;
}

/// Turns a text into a name that every kernel takes.
std::string toName(std::string text) {
  constexpr size_t kLongest = 79;
  for (char& letter : text) {
    if (letter < ' ' || letter > '~' || std::strchr("\\`$[]", letter) != nullptr) letter = '_';
  }
  return text.substr(0, kLongest);
}

}  // namespace

HostRange::HostRange(HostRange&& other) noexcept
    : base_(std::exchange(other.base_, 0)),
      size_(std::exchange(other.size_, 0)),
      mappedSize_(std::exchange(other.mappedSize_, 0)),
      start_(std::exchange(other.start_, 0)),
      name_(std::move(other.name_)) {}

// The range that this one owned goes to `other`, whose destructor unmaps it.
HostRange& HostRange::operator=(HostRange&& other) noexcept {
  std::swap(base_, other.base_);
  std::swap(size_, other.size_);
  std::swap(mappedSize_, other.mappedSize_);
  std::swap(start_, other.start_);
  std::swap(name_, other.name_);
  return *this;
}

HostRange::~HostRange() {
  // SAFETY: this object made the range and nobody else unmaps in it. A failure (the process is at its limit of
  // mappings) leaks address space, which harms nobody: its memory slots are gone, they hold a share of it.
  if (mappedSize_ != 0) ::munmap(reinterpret_cast<void*>(base_), mappedSize_);
}

Failure HostRange::reserve(uint64_t size, const std::string& name, HostRange& result, uint64_t start) {
  INVARIANT(size != 0 && size % kPageSize == 0);
  const uint64_t alignment = size < kGiantPageSize ? kHugePageSize : kGiantPageSize;
  // One page more than asked for stays behind the range: see lengthOfOnePiece.
  uint64_t mapped = 0;
  uint64_t padded = 0;
  if (__builtin_add_overflow(size, kPageSize, &mapped) || __builtin_add_overflow(mapped, alignment, &padded)) {
    return {ENOMEM, "mmap", nullptr};
  }
  // SAFETY: without MAP_FIXED the kernel picks a free range.
  void* address = ::mmap(nullptr, padded, PROT_NONE, kReservationFlags, -1, 0);
  if (address == MAP_FAILED) return failedCall("mmap");
  const uint64_t found = reinterpret_cast<uint64_t>(address);
  const uint64_t phase = start & (alignment - 1);
  const uint64_t base = ((found - phase + alignment - 1) & ~(alignment - 1)) + phase;
  INVARIANT(base >= found && base + mapped <= found + padded);
  const uint64_t before = base - found;
  const uint64_t after = padded - before - mapped;
  // SAFETY: both ends lie inside the range that was just made, outside of what is kept.
  if (before != 0) ::munmap(address, before);
  if (after != 0) ::munmap(reinterpret_cast<void*>(base + mapped), after);
  HostRange reserved(base, size, mapped, start);
  if (!name.empty()) {
    reserved.name_ = toName(name);
    if (const Failure failure = reserved.nameEnd()) return failure;
    reserved.nameRange(start, size);
  }
  result = std::move(reserved);
  return kDone;
}

Failure HostRange::shareWhole(int fd, uint64_t size, HostRange& result) {
  // SAFETY: without MAP_FIXED the kernel picks a free range.
  void* address = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (address == MAP_FAILED) return failedCall("mmap");
  result = HostRange(reinterpret_cast<uint64_t>(address), size, size, 0);
  return kDone;
}

Failure HostRange::checkMappable(int fd) {
  // SAFETY: without MAP_FIXED the kernel picks a free range, of which nobody has access.
  void* address = ::mmap(nullptr, kPageSize, PROT_NONE, MAP_SHARED, fd, 0);
  if (address == MAP_FAILED) return errno == ENODEV ? failedCall("mmap") : kDone;
  // SAFETY: the range that was just made.
  ::munmap(address, kPageSize);
  return kDone;
}

Failure HostRange::mapShared(uint64_t offset, uint64_t length, Use use, int fd, uint64_t fileOffset, bool isReserved) {
  return replace(offset, length, protectionOf(use), MAP_SHARED | (isReserved ? 0 : MAP_NORESERVE), fd, fileOffset);
}

Failure HostRange::mapCopyOnWrite(uint64_t offset, uint64_t length, int fd, uint64_t fileOffset) {
  return replace(offset, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, fd, fileOffset);
}

Failure HostRange::clear(uint64_t offset, uint64_t length) {
  if (const Failure failure = replace(offset, length, PROT_NONE, kReservationFlags, -1, 0)) return failure;
  nameRange(offset, length);
  return kDone;
}

Failure HostRange::protect(uint64_t offset, uint64_t length, Use use) {
  // SAFETY: the range is inside what this object owns, as at() proves.
  if (::mprotect(at(offset, length), length, protectionOf(use)) == 0) return kDone;
  const Failure failure = failedCall("mprotect");
  // One piece changes as a whole or not at all.
  return lengthOfOnePiece(offset, length) == length ? failure : halfDone(failure);
}

Failure HostRange::moveTo(HostRange& target, uint64_t targetOffset, uint64_t offset, uint64_t length) {
  if (const Failure failure = movePages(target, targetOffset, offset, length)) return failure;
  const Failure failure = clear(offset, length);
  return failure ? halfDone(failure, length) : kDone;
}

Failure HostRange::movePages(HostRange& target, uint64_t targetOffset, uint64_t offset, uint64_t length) {
  for (uint64_t moved = 0; moved != length;) {
    const uint64_t piece = lengthOfOnePiece(offset + moved, length - moved);
    INVARIANT(piece != 0 && piece <= length - moved && piece % kPageSize == 0);
    if (const Failure failure = moveOnePiece(target, targetOffset + moved, offset + moved, piece)) {
      target.closeHole(targetOffset + moved, piece);
      return halfDone(failure, moved);
    }
    moved += piece;
  }
  return kDone;
}

void* HostRange::at(uint64_t offset, uint64_t length) const {
  INVARIANT(contains(offset, length) && offset % kPageSize == 0 && length % kPageSize == 0);
  // SAFETY: inside what this object owns (above).
  return reinterpret_cast<void*>(addressOf(offset));
}

/// Maps the page behind the range from an empty file that has the name.
Failure HostRange::nameEnd() const {
  const FileDescriptor nameplate(::memfd_create(name_.c_str(), MFD_CLOEXEC));
  // The name is for people only.
  if (!nameplate.isOpen()) return kDone;
  // SAFETY: the page is this object's own, and nobody else's business.
  void* address = ::mmap(reinterpret_cast<void*>(base_ + size_), kPageSize, PROT_NONE,
                         MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED, nameplate.get(), 0);
  return address == MAP_FAILED ? failedCall("mmap") : kDone;
}

/// Names the range like the rest of its owner's: neighbours with different names would not become one piece.
void HostRange::nameRange(uint64_t offset, uint64_t length) const {
  if (!name_.empty() && canName()) {
    ::prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, addressOf(offset), length, name_.c_str());
  }
}

Failure HostRange::replace(uint64_t offset, uint64_t length, int protection, int flags, int fd,
                         uint64_t fileOffset) {
  // SAFETY: MAP_FIXED hits only what this object owns, as at() proves.
  void* address =
      ::mmap(at(offset, length), length, protection, flags | MAP_FIXED, fd, static_cast<off_t>(fileOffset));
  if (address != MAP_FAILED) return kDone;
  const Failure failure = failedCall("mmap");
  return closeHole(offset, length) ? halfDone(failure) : failure;
}

/// Moves the pages of a range that is one piece for the kernel. One without pages stays.
Failure HostRange::moveOnePiece(HostRange& target, uint64_t targetOffset, uint64_t offset, uint64_t length) {
  // SAFETY: source and destination are inside what the two objects own, as at() proves, and MREMAP_DONTUNMAP leaves no
  // hole at the source.
  void* address = ::mremap(at(offset, length), length, length, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP,
                           target.at(targetOffset, length));
  return address == MAP_FAILED ? failedCall("mremap") : kDone;
}

/// Makes a hole that a failed call with MAP_FIXED has left into reservation at once, before another thread takes it:
/// some kernels unmap before they find out that they cannot do the rest. Returns whether the range may show something
/// else than before.
bool HostRange::closeHole(uint64_t offset, uint64_t length) {
  // SAFETY: MAP_FIXED_NOREPLACE replaces nothing: it succeeds exactly if the whole range is a hole.
  const void* address =
      ::mmap(at(offset, length), length, PROT_NONE, kReservationFlags | MAP_FIXED_NOREPLACE, -1, 0);
  return address != MAP_FAILED || errno != EEXIST;
}

/// Number of bytes from `offset` on, at most `length`, that the kernel keeps as one piece (VMA). Only such a piece may
/// be given to mremap: several are EFAULT before Linux 6.17, and since then may fail after some have moved.
uint64_t HostRange::lengthOfOnePiece(uint64_t offset, uint64_t length) const {
  // Growing in place never succeeds here, as every page is followed by another mapped one (the last by the guard
  // page), and it fails with EFAULT if the range is more than one piece, otherwise with something else.
  const auto isOnePiece = [&](uint64_t tried) {
    // SAFETY: without MREMAP_MAYMOVE nothing moves, and nothing grows (above).
    return ::mremap(at(offset, tried), tried, tried + kPageSize, 0) == MAP_FAILED && errno != EFAULT;
  };
  if (isOnePiece(length)) return length;
  uint64_t piece = kPageSize;
  uint64_t tooLong = length;
  while (tooLong - piece > kPageSize) {
    const uint64_t tried = piece + (tooLong - piece) / 2 / kPageSize * kPageSize;
    (isOnePiece(tried) ? piece : tooLong) = tried;
  }
  return piece;
}

}  // namespace membacking
