// A file descriptor that is closed by its owner's end.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <string>
#include <utility>

namespace membacking {

/// Owns a file descriptor, or nothing (-1).
class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~FileDescriptor() {
    // EINTR and EIO leave the descriptor closed on Linux: there is nothing to repeat.
    if (fd_ >= 0) ::close(fd_);
  }

  /// Another descriptor for what `fd` is open on; nothing, and errno, where there is none.
  static FileDescriptor duplicate(int fd) { return FileDescriptor(::fcntl(fd, F_DUPFD_CLOEXEC, 0)); }

  /// Opens the file behind this one once more, to be read only. Nothing, and errno, where that cannot be.
  FileDescriptor reopenReadOnly() const {
    return FileDescriptor(::open(("/proc/self/fd/" + std::to_string(fd_)).c_str(), O_RDONLY | O_CLOEXEC));
  }

  int get() const { return fd_; }
  bool isOpen() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

// Newer than some of the system headers this builds with.
#ifndef F_DUPFD_QUERY
#define F_DUPFD_QUERY 1027
#endif

/// Whether two descriptors are open on the same, by one call of open. False, too, where the kernel does not say so:
/// before Linux 6.10.
inline bool isSameOpenFile(int one, int other) { return ::fcntl(one, F_DUPFD_QUERY, other) == 1; }

/// Calls fstat by its number: its symbol is newer than the systems that the addon is for (see old_system.h).
inline int readFacts(int fd, struct stat& facts) { return static_cast<int>(::syscall(SYS_fstat, fd, &facts)); }

}  // namespace membacking
