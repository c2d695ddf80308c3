// Memory objects: how each kind is opened, and what is asked of a file before.

#include "host/object.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <utility>

#include "host/invariant.h"
#include "host/small_file.h"

namespace membacking {
namespace {

constexpr int kHugeShift = 26;  // MFD_HUGE_SHIFT

/// Whether the character device is memory that can be mapped (device DAX), and its size in bytes.
bool readDaxSize(dev_t device, uint64_t& size) {
  const std::string node =
      "/sys/dev/char/" + std::to_string(major(device)) + ":" + std::to_string(minor(device));
  char target[256];
  const ssize_t length = ::readlink((node + "/subsystem").c_str(), target, sizeof target);
  if (length < 0) return false;
  const std::string subsystem(target, static_cast<size_t>(length));
  if (subsystem.substr(subsystem.rfind('/') + 1) != "dax") return false;
  size = std::strtoull(readSmallFile(node + "/size").c_str(), nullptr, 10);
  return size != 0;
}

/// Bytes that can be mapped from `fd`'s start, counting a last page that is only partly there. Of memory that a driver
/// gives, as many as an offset reaches, where the descriptor says no number.
Failure readMappableSize(int fd, uint64_t& size, bool& isDriver) {
  struct stat facts;
  if (readFacts(fd, facts) != 0) return failedCall("fstat");
  const uint64_t said = pageEnd(static_cast<uint64_t>(facts.st_size));
  isDriver = false;
  if (S_ISREG(facts.st_mode)) {
    size = said;
  } else if (S_ISBLK(facts.st_mode)) {
    if (::ioctl(fd, BLKGETSIZE64, &size) != 0) return failedCall("ioctl");
  } else if (!S_ISCHR(facts.st_mode) || !readDaxSize(facts.st_rdev, size)) {
    isDriver = true;
    size = said != 0 ? said : std::numeric_limits<int64_t>::max();
    return HostRange::checkMappable(fd);
  }
  return kDone;
}

/// Reads which file system gives a file its pages, and how large they are.
Failure readFileKind(int fd, MemoryObject& object) {
  struct statfs facts;
  if (::fstatfs(fd, &facts) != 0) return failedCall("fstatfs");
  switch (facts.f_type) {
    case HUGETLBFS_MAGIC:
      object.fileKind = FileKind::kHugePages;
      object.granularity = static_cast<uint64_t>(facts.f_bsize);
      break;
    case TMPFS_MAGIC:
      object.fileKind = FileKind::kMemory;
      break;
    default:
      object.fileKind = FileKind::kOther;
  }
  return kDone;
}

/// Makes `object` one of a duplicate of `fd`, if access mode, kind and size will do.
Failure adopt(int fd, uint64_t size, bool isWritable, bool mayGrow, MemoryObject& object) {
  uint64_t mappable = 0;
  bool isDriver = false;
  if (const Failure failure = MemoryObject::checkAccess(fd, isWritable)) return failure;
  if (const Failure failure = readMappableSize(fd, mappable, isDriver)) return failure;
  if (isDriver) {
    object.fileKind = FileKind::kDriver;
  } else if (const Failure failure = readFileKind(fd, object)) {
    return failure;
  }
  const uint64_t there = mappable - std::min(mappable, object.fileOffset);
  if (size > there && !mayGrow) return {ENXIO, "fstat", "the file is shorter than the size that was given"};
  if ((size | object.fileOffset) % object.granularity != 0) return {EINVAL, "fstat", "size or offset is no multiple of the file's page size"};
  object.fd = FileDescriptor::duplicate(fd);
  if (!object.fd.isOpen()) return failedCall("fcntl");
  object.size = size;
  object.isLasting = !object.isShrinkable() && object.granularity == kPageSize;
  return kDone;
}

}  // namespace

Failure MemoryObject::memfd(const std::string& name, uint64_t size, uint64_t hugePageSize, bool isReserved,
                       std::shared_ptr<MemoryObject>& result) {
  unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  INVARIANT(size != 0 && size % (hugePageSize != 0 ? hugePageSize : kPageSize) == 0);
  if (hugePageSize != 0) flags |= MFD_HUGETLB | static_cast<unsigned>(__builtin_ctzll(hugePageSize)) << kHugeShift;
  auto object = std::make_shared<MemoryObject>();
  object->isShared = true;
  object->size = size;
  object->isReserved = isReserved;
  object->granularity = hugePageSize != 0 ? hugePageSize : kPageSize;
  object->isLasting = hugePageSize == 0;
  object->fileKind = hugePageSize != 0 ? FileKind::kHugePages : FileKind::kMemory;
  object->fd = FileDescriptor(::memfd_create(name.c_str(), flags));
  const int fd = object->fd.get();
  if (fd < 0) return failedCall("memfd_create");
  if (::ftruncate(fd, static_cast<off_t>(size)) != 0) return failedCall("ftruncate");
  // Not F_SEAL_FUTURE_WRITE: it would forbid to give pages back.
  if (::fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) return failedCall("fcntl");
  if (hugePageSize != 0 && isReserved) {
    // The kernel books huge pages for the file when they are first mapped, and keeps the booking.
    HostRange booking;
    if (const Failure failure = HostRange::shareWhole(fd, size, booking)) return failure;
  }
  result = std::move(object);
  return kDone;
}

Failure MemoryObject::fromFd(int fd, uint64_t size, bool isWritable, bool mayGrow, bool isReserved,
                        std::shared_ptr<MemoryObject>& result) {
  auto object = std::make_shared<MemoryObject>();
  object->isShared = true;
  object->isWritable = isWritable;
  object->mayGrow = mayGrow;
  object->isReserved = isReserved;
  if (const Failure failure = adopt(fd, size, isWritable, mayGrow, *object)) return failure;
  result = std::move(object);
  return kDone;
}

Failure MemoryObject::checkMappable(int fd) {
  uint64_t size = 0;
  bool isDriver = false;
  return readMappableSize(fd, size, isDriver);
}

Failure MemoryObject::checkAccess(int fd, bool isWritable) {
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0) return failedCall("fcntl");
  const int mode = flags & O_ACCMODE;
  if ((flags & O_PATH) != 0 || mode == O_WRONLY) {
    return {EACCES, "fcntl", "the descriptor was not opened for reading"};
  }
  if (isWritable && mode != O_RDWR) return {EACCES, "fcntl", "the descriptor was not opened for writing"};
  return kDone;
}

Failure MemoryObject::privateMemory(uint64_t size, const std::string& name, std::shared_ptr<MemoryObject>& result) {
  auto object = std::make_shared<MemoryObject>();
  object->size = size;
  if (const Failure failure = HostRange::reserve(size, name, object->home)) return failure;
  if (const Failure failure = object->home.protect(0, size, Use::kAll)) return failure;
  result = std::move(object);
  return kDone;
}

Failure MemoryObject::lazyMemory(std::shared_ptr<Pager> pager, uint64_t size, const std::string& name,
                                 RangeMap<FilePart> absent, std::vector<FileDescriptor> files,
                                 std::shared_ptr<MemoryObject>& result) {
  std::shared_ptr<MemoryObject> object;
  if (const Failure failure = privateMemory(size, name, object)) return failure;
  uint32_t block = 0;
  if (const Failure failure = pager->add(object->home, std::move(absent), std::move(files), block)) return failure;
  object->lazy = std::make_unique<PagerBlock>(std::move(pager), block);
  object->isLasting = false;
  result = std::move(object);
  return kDone;
}

Failure MemoryObject::privateFile(int fd, uint64_t fileOffset, uint64_t size, std::shared_ptr<MemoryObject>& result) {
  auto object = std::make_shared<MemoryObject>();
  object->fileOffset = fileOffset;
  if (const Failure failure = adopt(fd, size, false, false, *object)) return failure;
  if (object->granularity != kPageSize) {
    return {EOPNOTSUPP, "fstatfs", "a file of huge pages cannot be copied on write"};
  }
  if (const Failure failure = HostRange::reserve(size, "membacking:ram", object->home)) return failure;
  if (const Failure failure = object->home.mapCopyOnWrite(0, size, object->fd.get(), fileOffset)) return failure;
  result = std::move(object);
  return kDone;
}

}  // namespace membacking
