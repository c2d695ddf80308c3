// /dev/kvm, and the ioctls of whatever comes from it.
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

/// The request's name with it, for kvmCall.
#define KVM_CALL(fd, request, argument) kvmCall(fd, request, argument, #request)

/// Asks /dev/kvm or a virtual machine for KVM_CAP_*. `result` is 0 for no, more for yes or how many.
Failure checkKvmExtension(int fd, uint32_t capability, int& result);

/// /dev/kvm.
struct Kvm {
  FileDescriptor fd;

  static Failure open(std::shared_ptr<Kvm>& result);
};

}  // namespace membacking
