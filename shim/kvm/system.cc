// KVM as a whole: how it is opened and asked.

#include "kvm/system.h"

#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>

namespace membacking {

/// Failure where KVM's registers, CPUID and devices are not those that the shim knows.
#ifdef __x86_64__
constexpr Failure kIsElsewhere = kDone;
#else
constexpr Failure kIsElsewhere = {ENOTSUP, "open", "KVM is supported on x86-64 only"};
#endif

int kvmIoctl(int fd, unsigned long request, unsigned long argument) {
  int result = 0;
  do {
    // SAFETY: the requests take a number or a pointer to their own struct, as linux/kvm.h says; callers pass that.
    result = ::ioctl(fd, request, argument);
  } while (result < 0 && errno == EINTR);
  return result;
}

Failure kvmCall(int fd, unsigned long request, unsigned long argument, const char* name) {
  return kvmIoctl(fd, request, argument) < 0 ? failedCall(name) : kDone;
}

Failure checkKvmExtension(int fd, uint32_t capability, int& result) {
  result = kvmIoctl(fd, KVM_CHECK_EXTENSION, capability);
  return result < 0 ? failedCall("KVM_CHECK_EXTENSION") : kDone;
}

static Failure checked(FileDescriptor fd, std::shared_ptr<Kvm>& result) {
  const int version = kvmIoctl(fd.get(), KVM_GET_API_VERSION, 0);
  if (version < 0) return failedCall("KVM_GET_API_VERSION");
  if (version != KVM_API_VERSION) return {ENODEV, "KVM_GET_API_VERSION", "this KVM has another API version"};
  result = std::make_shared<Kvm>();
  result->fd = std::move(fd);
  return kDone;
}

Failure Kvm::open(std::shared_ptr<Kvm>& result) {
  if (kIsElsewhere) return kIsElsewhere;
  FileDescriptor fd(::open("/dev/kvm", O_RDWR | O_CLOEXEC));
  return fd.isOpen() ? checked(std::move(fd), result) : failedCall("open");
}

Failure Kvm::adopt(int theirs, std::shared_ptr<Kvm>& result) {
  if (kIsElsewhere) return kIsElsewhere;
  FileDescriptor fd = FileDescriptor::duplicate(theirs);
  return fd.isOpen() ? checked(std::move(fd), result) : failedCall("fcntl");
}

}  // namespace membacking
