// KVM as a whole: /dev/kvm, and calls of ioctls on its descriptors.
#pragma once

#include <cstdint>
#include <memory>

#include "host/failure.h"
#include "host/fd.h"

namespace membacking {

/// Calls an ioctl again as long as a signal interrupts it. -1 and errno, as the call itself.
int kvmIoctl(int fd, unsigned long request, unsigned long argument);
/// Calls an ioctl whose result means nothing. `name` is the request's, for the failure.
Failure kvmCall(int fd, unsigned long request, unsigned long argument, const char* name);

/// kvmCall with the request's name.
#define KVM_CALL(fd, request, argument) kvmCall(fd, request, argument, #request)

/// Asks /dev/kvm or a virtual machine for KVM_CAP_*. `result` is 0 for no, more for yes or how many.
Failure checkKvmExtension(int fd, uint32_t capability, int& result);

/// /dev/kvm, open.
struct Kvm {
  FileDescriptor fd;

  /// ENOENT: there is no KVM; EACCES: not for this user; ENODEV: another API version; ENOTSUP: another processor than
  /// x86-64.
  static Failure open(std::shared_ptr<Kvm>& result);
  /// Makes one of a duplicate of the caller's descriptor. ENOTTY: it is none of KVM's; ENODEV: another API version.
  static Failure adopt(int fd, std::shared_ptr<Kvm>& result);
};

}  // namespace membacking
