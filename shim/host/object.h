// Mappable objects: what a VA command puts at a GPA.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "host/fd.h"
#include "host/mapping.h"

namespace membacking {

/// Who gives a file its pages.
enum class FileKind { kNone, kMemory, kHugePages, kOther };

struct Backing {
  /// Shared: pages of `fd`, at any number of places. Private: pages that exist once, in `home` or at a GPA. `home` is a
  /// reservation of its own: readable and writable where they are at home, plain reservation where they are not.
  bool isShared = false;
  bool isWritable = true;
  uint64_t size = 0;
  /// Whether the file may have less than `size`.
  bool mayGrow = false;
  /// Bytes: mappings of it begin, end and point to multiples of this.
  uint64_t granularity = kPageSize;
  FileDescriptor fd;
  FileKind fileKind = FileKind::kNone;
  /// Whether huge pages are reserved for what is mapped; else one may be missing when it is touched.
  bool isReserved = true;
  Mapping home;
  /// What was asked for its pages: the node, or kAnyNode. Read by populate() on other threads.
  static constexpr uint32_t kAnyNode = UINT32_MAX;
  std::atomic<uint32_t> node = kAnyNode;
  std::atomic<bool> wantsHugePages = false;
  /// Of a shared object: keeps all of it in memory.
  Mapping pinning;
  bool isPinned = false;

  /// Anonymous memory that other processes can be told of; sealed, so that it never shrinks under a mapping.
  /// `hugePageSize` in bytes, or 0; `isReserved`: huge pages are reserved now, so that no mapping of them fails later.
  static Failure memfd(const std::string& name, uint64_t size, uint64_t hugePageSize, bool isReserved,
                       std::shared_ptr<Backing>&);
  /// A duplicate of the caller's descriptor. EACCES, ENODEV, ENXIO: its access mode, kind or size will not do.
  /// `mayGrow`: `size` may be more than there is now; behind the file's end there is nothing until it grows.
  static Failure fromFd(int fd, uint64_t size, bool isWritable, bool mayGrow, bool isReserved,
                        std::shared_ptr<Backing>&);
  /// Whether a descriptor shows something that can be mapped. ENODEV.
  static Failure checkMappable(int fd);
  /// Whether fromFd would take the access mode of a descriptor. EACCES.
  static Failure checkAccess(int fd, bool isWritable);
  static Failure privateMemory(uint64_t size, const std::string& name, std::shared_ptr<Backing>&);
  /// A copy-on-write image of the file from its start.
  static Failure privateFile(int fd, uint64_t size, std::shared_ptr<Backing>&);

  bool contains(uint64_t offset, uint64_t length) const {
    return length != 0 && offset < size && length <= size - offset;
  }
  /// Whether the file is or can become shorter than the object: unless something excludes it.
  bool isShrinkable() const;
  /// Bytes of memory or disk space that the file of a shared object has.
  Failure readAllocated(uint64_t& bytes) const;

  // Its pages, in backing_pages.cc. Ranges are any; those outside of the object or of parts of pages are EINVAL.

  /// Gives memory back. `freed`: bytes.
  Failure discard(uint64_t offset, uint64_t length, uint64_t& freed);
  /// Makes the range resident. On any thread, several at once, while plans are carried out.
  Failure populate(uint64_t offset, uint64_t length) const;
  /// Why the page at `offset` cannot be had, when touching it has failed: for people, as others change that.
  Failure whyMissing(uint64_t offset) const;
  Failure setNode(uint32_t node);
  /// `atTouch`: whether the machine gives them when the memory is touched.
  Failure adviseHugePages(bool& atTouch);
  Failure pin();
  /// Mapping::moveTo for private pages, between `home` and a VA space; what is pinned stays so, unless that fails.
  Failure move(Mapping& from, uint64_t offset, Mapping& to, uint64_t toOffset, uint64_t length);
  /// Mapping::mapShared of a shared object from `offset` on, with what was asked for its pages; that is no condition.
  Failure showShared(Mapping& place, uint64_t at, uint64_t length, Use use, uint64_t offset) const;

 private:
  Failure checkRange(uint64_t offset, uint64_t length) const;
  template <typename Do>
  Failure withPages(uint64_t offset, uint64_t length, Do what) const;
};

}  // namespace membacking
