// The kernel's list of this process's pages: how it is read.

#include "host/pagemap.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "host/page.h"

namespace membacking {

Failure Pagemap::open(Pagemap& result) {
  result.fd_ = FileDescriptor(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  return result.fd_.isOpen() ? kDone : failedCall("open");
}

Failure Pagemap::read(uint64_t hva, uint64_t count, uint64_t* entries) const {
  const uint64_t bytes = count * sizeof(uint64_t);
  const ssize_t read = ::pread(fd_.get(), entries, bytes, static_cast<off_t>(hva / kPageSize * sizeof(uint64_t)));
  if (read < 0) return failedCall("pread");
  if (static_cast<uint64_t>(read) != bytes) return {EIO, "pread", "the kernel tells less than was asked"};
  return kDone;
}

}  // namespace membacking
