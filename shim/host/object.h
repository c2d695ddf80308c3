// Memory objects: memory that VA commands show in VA spaces.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <shared_mutex>
#include <string>
#include <vector>

#include "host/dirty_pages.h"
#include "host/fd.h"
#include "host/host_range.h"
#include "host/pager.h"
#include "host/stretch.h"
#include "host/whereabouts.h"
#include "host/write_watch.h"

namespace membacking {

/// Origin of a file's pages: no file, tmpfs or a memfd, hugetlbfs, another file system, a driver.
enum class FileKind { kNone, kMemory, kHugePages, kOther, kDriver };

/// A memory object. Shared: pages of `fd`, at any number of places. Private: pages that exist once, in `home` or at a
/// GPA.
struct MemoryObject {
  bool isShared = false;
  bool isWritable = true;
  /// Bytes, whole pages.
  uint64_t size = 0;
  /// Whether the file may have less than `size`.
  bool mayGrow = false;
  /// Bytes. Mappings of the object begin, end and point to multiples of this: a power of two.
  uint64_t granularity = kPageSize;
  FileDescriptor fd;
  /// Offset in the file of the object's first byte: whole pages. Shared: 0.
  uint64_t fileOffset = 0;
  FileKind fileKind = FileKind::kNone;
  /// Whether nobody else can take its pages away, nor any of them be missing. What is sealed, or brought by a pager,
  /// later does not count.
  bool isLasting = true;
  /// Whether huge pages are reserved for what is mapped; else one may be missing when it is touched.
  bool isReserved = true;
  /// Reservation for the pages of a private object: readable and writable where they are at home, plain reservation
  /// where they are not.
  HostRange home;
  /// Block of the pager that brings the pages of a private object; null where they are there. (It goes before `home`.)
  std::unique_ptr<PagerBlock> lazy;
  /// Places of the private pages that are not at home.
  Whereabouts whereabouts;
  /// Held by who moves private pages; shared by who reads them, on whichever thread.
  mutable std::shared_mutex moving;
  /// Pages written since somebody asked.
  DirtyPages dirty;
  static constexpr uint32_t kAnyNode = UINT32_MAX;
  // Wishes for the pages, which populate() reads on other threads.
  std::atomic<uint32_t> node = kAnyNode;
  std::atomic<bool> wantsHugePages = false;
  /// Host range of all of it to read from, once somebody wanted one.
  std::shared_ptr<const HostRange> view;
  /// Locked host range that keeps all of a pinned shared object in memory.
  HostRange pinning;
  bool isPinned = false;

  /// Makes anonymous memory that other processes can be told of; sealed, so that it never shrinks under a mapping.
  /// `hugePageSize` in bytes, or 0; `isReserved`: huge pages are reserved now, so that no mapping of them fails later.
  static Failure memfd(const std::string& name, uint64_t size, uint64_t hugePageSize, bool isReserved,
                       std::shared_ptr<MemoryObject>&);
  /// Makes an object of a duplicate of the caller's descriptor. EACCES, ENODEV, ENXIO: its access mode, kind or size
  /// will not do. `mayGrow`: `size` may be more than there is; behind the file's end there is nothing until it grows. A
  /// driver may still refuse to map a part of it.
  static Failure fromFd(int fd, uint64_t size, bool isWritable, bool mayGrow, bool isReserved,
                        std::shared_ptr<MemoryObject>&);
  /// Whether a descriptor shows something that can be mapped. ENODEV.
  static Failure checkMappable(int fd);
  /// Whether fromFd would take the access mode of a descriptor. EACCES.
  static Failure checkAccess(int fd, bool isWritable);
  static Failure privateMemory(uint64_t size, const std::string& name, std::shared_ptr<MemoryObject>&);
  /// Makes private memory whose pages a pager brings: `absent` says which of them are in `files`.
  static Failure lazyMemory(std::shared_ptr<Pager> pager, uint64_t size, const std::string& name,
                            RangeMap<FilePart> absent, std::vector<FileDescriptor> files,
                            std::shared_ptr<MemoryObject>&);
  /// Makes a copy-on-write image of a part of the file: whole pages from `fileOffset` on.
  static Failure privateFile(int fd, uint64_t fileOffset, uint64_t size, std::shared_ptr<MemoryObject>&);

  bool contains(uint64_t offset, uint64_t length) const {
    return length != 0 && offset < size && length <= size - offset;
  }
  /// Whether the file is or can become shorter than the object, unless something excludes it; or one that a pager has
  /// yet to read.
  bool isShrinkable() const;
  /// Origin of its pages when they are touched first.
  PageOrigin pageOrigin() const {
    if (lazy != nullptr) return PageOrigin::kPager;
    return fileKind == FileKind::kNone ? PageOrigin::kNothing : PageOrigin::kFile;
  }
  /// Bytes of memory or disk space that the file of a shared object has.
  Failure readAllocated(uint64_t& bytes) const;

  // Pages of the object, in object_pages.cc. A range that leaves the object or cuts its pages is EINVAL.

  /// Says that ranges are to be freed: what a pager has for them is dropped, and the pages are dirty, as freeing writes
  /// zeroes of which the kernel does not say so.
  Failure leave(const std::vector<Stretch>& ranges);
  /// Gives memory back to the machine, of ranges that leave() took: they read as zeroes, a copy of a file as the file.
  /// Any thread may call it for a shared object. `freed`: bytes. One that fails has freed what comes before.
  Failure free(const std::vector<Stretch>& ranges, uint64_t& freed) const;
  /// Makes the range resident. Any thread may call it, several at once, while plans are carried out.
  Failure populate(uint64_t offset, uint64_t length) const;
  /// Names the cause why touching the page at `offset` has failed: for people, as others change that.
  Failure whyMissing(uint64_t offset) const;
  /// Takes pages that become resident later from NUMA node `node`. EINVAL: there is no such node.
  Failure setNode(uint32_t node);
  /// Asks for transparent huge pages, wherever the object is shown. `atTouch`: whether the machine gives them when the
  /// memory is touched.
  Failure adviseHugePages(bool& atTouch);
  /// Makes all of the object resident, and never swapped, until it ends.
  Failure pin();
  /// Moves private pages between `home` and a VA space, as HostRange::moveTo. Pinned pages stay pinned, unless that
  /// fails.
  Failure moveOut(uint64_t offset, const std::shared_ptr<Reservation>& to, uint64_t gpa, uint64_t length);
  Failure moveHome(const std::shared_ptr<Reservation>& from, uint64_t gpa, uint64_t offset, uint64_t length);
  /// Shows a shared object from `offset` on, as HostRange::mapShared. Wishes for its pages are passed on, and may fail.
  Failure showShared(HostRange& place, uint64_t at, uint64_t length, Use use, uint64_t offset) const;

  /// Maps all of a shared object whose pages nobody can take away, to be read; it stays as long as the object. Null for
  /// others, and where that fails.
  std::shared_ptr<const HostRange> viewAll();

  // Bytes of the object, in object_bytes.cc, wherever they are shown and however they are protected there. The range is
  // inside the object. `done` bytes were copied; where that is fewer than `length`, the next one is not there.

  Failure read(uint64_t offset, uint8_t* into, uint64_t length, uint64_t& done) const;
  /// Reads as read() does, of a private object, and faster. Any thread may call it while plans are carried out, which
  /// wait for it; it waits for whoever brings pages.
  void readOnAnyThread(uint64_t offset, uint8_t* into, uint64_t length, uint64_t& done) const;
  /// EACCES: the object is read-only.
  Failure write(uint64_t offset, const uint8_t* from, uint64_t length, uint64_t& done);
  /// Brings what the range touches, of an object that a pager brings.
  Failure fetch(uint64_t offset, uint64_t length) const;
  /// Makes what the range has zeroes, as far as a pager has not brought it.
  void drop(uint64_t offset, uint64_t length) const;
  /// Makes pages dirty: those that the range, which is not empty, touches.
  void noteWritten(uint64_t offset, uint64_t length);

  // Data of the object, in object_data.cc: whole pages in order, joined where they follow each other. Asking makes
  // nothing resident, and moves the position of no descriptor.

  /// Finds what the file has, as far as it says so: else all of it; and what a pager would bring from files. Nothing
  /// where there are none.
  Failure findFileData(std::vector<Stretch>& found) const;
  /// Finds the pages of a private object that are its own: those of its file are not. Of a shared one, none is.
  Failure findOwnPages(std::vector<Stretch>& found) const;

 private:
  Failure move(HostRange& from, uint64_t offset, HostRange& to, uint64_t toOffset, uint64_t length) const;
  template <typename Copy>
  Failure copyShared(uint64_t offset, uint64_t length, Copy copy) const;
  template <typename Copy>
  Failure copyPrivate(uint64_t offset, uint64_t length, uint64_t& done, bool isWrite, Copy copy) const;
  Failure checkRange(uint64_t offset, uint64_t length) const;
  template <typename Do>
  Failure withPages(uint64_t offset, uint64_t length, Do what) const;
};

}  // namespace membacking
