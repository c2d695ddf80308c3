#include "backing.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <fstream>
#include <limits>

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
  std::ifstream file(node + "/size");
  return static_cast<bool>(file >> size);
}

/// Bytes that can be mapped from `fd`'s start, counting a last page that is only partly there.
Failure readMappableSize(int fd, uint64_t& size) {
  struct stat facts;
  if (::fstat(fd, &facts) != 0) return failedCall("fstat");
  if (S_ISREG(facts.st_mode)) {
    size = (static_cast<uint64_t>(facts.st_size) + kPageSize - 1) / kPageSize * kPageSize;
  } else if (S_ISBLK(facts.st_mode)) {
    if (::ioctl(fd, BLKGETSIZE64, &size) != 0) return failedCall("ioctl");
  } else if (!S_ISCHR(facts.st_mode) || !readDaxSize(facts.st_rdev, size)) {
    return {ENODEV, "fstat", "this is no file, block device or DAX device"};
  }
  return kDone;
}

Failure checkAccessMode(int fd, bool isWritable) {
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0) return failedCall("fcntl");
  const int mode = flags & O_ACCMODE;
  if ((flags & O_PATH) != 0 || mode == O_WRONLY) {
    return {EACCES, "fcntl", "the descriptor was not opened for reading"};
  }
  if (isWritable && mode != O_RDWR) return {EACCES, "fcntl", "the descriptor was not opened for writing"};
  return kDone;
}

/// The page size of a hugetlb file; 4096 of any other.
Failure readGranularity(int fd, uint64_t& granularity) {
  struct statfs facts;
  if (::fstatfs(fd, &facts) != 0) return failedCall("fstatfs");
  if (facts.f_type == HUGETLBFS_MAGIC) granularity = static_cast<uint64_t>(facts.f_bsize);
  return kDone;
}

Failure adopt(int fd, uint64_t size, bool isWritable, Backing& backing) {
  uint64_t mappable = 0;
  if (const Failure failure = checkAccessMode(fd, isWritable)) return failure;
  if (const Failure failure = readMappableSize(fd, mappable)) return failure;
  if (const Failure failure = readGranularity(fd, backing.granularity)) return failure;
  if (size > mappable) return {ENXIO, "fstat", "the file is shorter than the size that was given"};
  if (size % backing.granularity != 0) return {EINVAL, "fstat", "the size is no multiple of the file's page size"};
  backing.fd = FileDescriptor(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!backing.fd.isOpen()) return failedCall("fcntl");
  backing.size = size;
  return kDone;
}

}  // namespace

Failure Backing::memfd(const std::string& name, uint64_t size, uint64_t hugePageSize,
                       std::shared_ptr<Backing>& result) {
  unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  if (hugePageSize != 0) flags |= MFD_HUGETLB | static_cast<unsigned>(__builtin_ctzll(hugePageSize)) << kHugeShift;
  auto backing = std::make_shared<Backing>();
  backing->isShared = true;
  backing->size = size;
  backing->granularity = hugePageSize != 0 ? hugePageSize : kPageSize;
  backing->fd = FileDescriptor(::memfd_create(name.c_str(), flags));
  const int fd = backing->fd.get();
  if (fd < 0) return failedCall("memfd_create");
  if (::ftruncate(fd, static_cast<off_t>(size)) != 0) return failedCall("ftruncate");
  // Not F_SEAL_FUTURE_WRITE: it would forbid to give pages back.
  if (::fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) return failedCall("fcntl");
  if (hugePageSize != 0) {
    // The kernel books huge pages for the file when they are first mapped, and keeps the booking.
    Mapping booking;
    if (const Failure failure = Mapping::shareWhole(fd, size, booking)) return failure;
  }
  result = std::move(backing);
  return kDone;
}

Failure Backing::fromFd(int fd, uint64_t size, bool isWritable, std::shared_ptr<Backing>& result) {
  auto backing = std::make_shared<Backing>();
  backing->isShared = true;
  backing->isWritable = isWritable;
  if (const Failure failure = adopt(fd, size, isWritable, *backing)) return failure;
  result = std::move(backing);
  return kDone;
}

Failure Backing::privateMemory(uint64_t size, std::shared_ptr<Backing>& result) {
  auto backing = std::make_shared<Backing>();
  backing->size = size;
  if (const Failure failure = Mapping::reserve(size, backing->home)) return failure;
  backing->home.name("membacking private");
  result = std::move(backing);
  return kDone;
}

Failure Backing::privateFile(int fd, uint64_t size, std::shared_ptr<Backing>& result) {
  auto backing = std::make_shared<Backing>();
  if (const Failure failure = adopt(fd, size, false, *backing)) return failure;
  if (backing->granularity != kPageSize) return {ENODEV, "fstatfs", "huge pages cannot be mapped privately"};
  if (const Failure failure = Mapping::reserve(size, backing->home)) return failure;
  if (const Failure failure = backing->home.mapCopyOnWrite(0, size, backing->fd.get())) return failure;
  result = std::move(backing);
  return kDone;
}

void BackingHandle::define(Napi::Env env, Napi::Object exports) {
  Handle::define(env, exports,
                 {
                     StaticMethod<&BackingHandle::memfd>("memfd"),
                     StaticMethod<&BackingHandle::fromFd>("fromFd"),
                     StaticMethod<&BackingHandle::privateMemory>("privateMemory"),
                     StaticMethod<&BackingHandle::privateFile>("privateFile"),
                     InstanceAccessor<&BackingHandle::kind>("kind"),
                     InstanceAccessor<&BackingHandle::size>("size"),
                     InstanceAccessor<&BackingHandle::writable>("writable"),
                     InstanceAccessor<&BackingHandle::granularity>("granularity"),
                     InstanceAccessor<&BackingHandle::fd>("fd"),
                     InstanceAccessor<&BackingHandle::allocatedBytes>("allocatedBytes"),
                     InstanceMethod<&BackingHandle::close>("close"),
                 });
}

/// Whole pages of `granularity`, at least one, at most what a file can have.
static uint64_t toSize(const Napi::Value& value, uint64_t granularity = kPageSize) {
  const uint64_t size = toU64(value, "size");
  if (size == 0 || size % granularity != 0 || size > std::numeric_limits<int64_t>::max()) {
    throwRange(value.Env(), "size", "whole pages, at least one, below 2^63");
  }
  return size;
}

static int toFd(const Napi::Value& value) {
  return static_cast<int>(toU32(value, "fd", std::numeric_limits<int>::max()));
}

Napi::Value BackingHandle::memfd(const Napi::CallbackInfo& info) {
  const std::string name = toString(info[0], "name");
  const uint64_t hugePageSize = toU64(info[2], "hugePageSize");
  if (hugePageSize != 0 && (hugePageSize < kPageSize || (hugePageSize & (hugePageSize - 1)) != 0)) {
    throwRange(info.Env(), "hugePageSize", "0 or a power of two that is a page size");
  }
  const uint64_t size = toSize(info[1], hugePageSize != 0 ? hugePageSize : kPageSize);
  std::shared_ptr<Backing> backing;
  check(info.Env(), Backing::memfd(name, size, hugePageSize, backing));
  return wrap(info.Env(), std::move(backing));
}

Napi::Value BackingHandle::fromFd(const Napi::CallbackInfo& info) {
  std::shared_ptr<Backing> backing;
  check(info.Env(), Backing::fromFd(toFd(info[0]), toSize(info[1]), toBool(info[2], "writable"), backing));
  return wrap(info.Env(), std::move(backing));
}

Napi::Value BackingHandle::privateMemory(const Napi::CallbackInfo& info) {
  std::shared_ptr<Backing> backing;
  check(info.Env(), Backing::privateMemory(toSize(info[0]), backing));
  return wrap(info.Env(), std::move(backing));
}

Napi::Value BackingHandle::privateFile(const Napi::CallbackInfo& info) {
  std::shared_ptr<Backing> backing;
  check(info.Env(), Backing::privateFile(toFd(info[0]), toSize(info[1]), backing));
  return wrap(info.Env(), std::move(backing));
}

Napi::Value BackingHandle::kind(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), core(info).isShared ? "shared" : "private");
}

Napi::Value BackingHandle::size(const Napi::CallbackInfo& info) {
  return Napi::BigInt::New(info.Env(), core(info).size);
}

Napi::Value BackingHandle::writable(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), core(info).isWritable);
}

Napi::Value BackingHandle::granularity(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(core(info).granularity));
}

Napi::Value BackingHandle::fd(const Napi::CallbackInfo& info) {
  const Backing& backing = core(info);
  if (!backing.isShared) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), backing.fd.get());
}

Napi::Value BackingHandle::allocatedBytes(const Napi::CallbackInfo& info) {
  const Backing& backing = core(info);
  if (!backing.isShared) return info.Env().Undefined();
  struct stat facts;
  if (::fstat(backing.fd.get(), &facts) != 0) throw systemError(info.Env(), failedCall("fstat"));
  constexpr uint64_t kBlock = 512;
  return Napi::BigInt::New(info.Env(), static_cast<uint64_t>(facts.st_blocks) * kBlock);
}

void BackingHandle::close(const Napi::CallbackInfo&) { release(); }

}  // namespace membacking
