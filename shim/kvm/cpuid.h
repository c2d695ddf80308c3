// CPUID as KVM reads and writes it: a list of kvm_cpuid_entry2, here as bytes.
#pragma once

#include <cstdint>
#include <vector>

#include "host/failure.h"

namespace membacking {

/// kvm_cpuid_entry2 after kvm_cpuid_entry2, 40 bytes each.
using CpuidEntries = std::vector<uint8_t>;

/// Number of entries.
uint32_t countOf(const CpuidEntries& entries);

/// Entries that this machine and KVM can give a guest.
Failure readSupportedCpuid(int kvmFd, CpuidEntries& entries);

/// Entries of a vCPU, of which there are `count`: not every KVM says how many.
Failure readCpuid(int vcpuFd, uint32_t count, CpuidEntries& entries);
/// Gives a vCPU that has not run yet all its entries, in place of those that it has.
Failure writeCpuid(int vcpuFd, const CpuidEntries& entries);

}  // namespace membacking
