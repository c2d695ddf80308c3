// The ioctls for CPUID: a head with the number of entries, then the entries.

#include "kvm/cpuid.h"

#include <linux/kvm.h>

#include <algorithm>
#include <cstring>

#include "host/invariant.h"
#include "kvm/system.h"

namespace membacking {
namespace {

// Head of kvm_cpuid2, before its entries. In C++, linux/kvm.h of some years gives the struct a wrong size, and with it
// its requests wrong numbers.
struct CpuidHead {
  uint32_t entries;
  uint32_t padding;
};
constexpr size_t kEntrySize = 40;  // kvm_cpuid_entry2, which only the headers of x86 have
static_assert(sizeof(CpuidHead) == 8);
constexpr unsigned long kGetSupported = _IOWR(KVMIO, 0x05, CpuidHead);
constexpr unsigned long kSet = _IOW(KVMIO, 0x90, CpuidHead);
constexpr unsigned long kGet = _IOWR(KVMIO, 0x91, CpuidHead);

/// A list with room for as many entries as its head says.
std::vector<uint8_t> listOf(uint32_t count) {
  std::vector<uint8_t> list(sizeof(CpuidHead) + count * kEntrySize);
  const CpuidHead head{count, 0};
  // SAFETY: the list begins with room for the head.
  std::memcpy(list.data(), &head, sizeof head);
  return list;
}

/// The list's first entries.
CpuidEntries entriesOf(const std::vector<uint8_t>& list, uint32_t count) {
  const auto first = list.begin() + sizeof(CpuidHead);
  return {first, first + count * kEntrySize};
}

unsigned long argumentOf(std::vector<uint8_t>& list) { return reinterpret_cast<unsigned long>(list.data()); }

}  // namespace

Failure readSupportedCpuid(int kvmFd, CpuidEntries& entries) {
  // More than any KVM has.
  constexpr uint32_t kMostEntries = 4096;
  for (uint32_t room = 128;; room *= 2) {
    std::vector<uint8_t> list = listOf(room);
    const Failure failure = kvmCall(kvmFd, kGetSupported, argumentOf(list), "KVM_GET_SUPPORTED_CPUID");
    if (failure && failure.error == E2BIG && room < kMostEntries) continue;
    if (failure) return failure;
    CpuidHead head;
    // SAFETY: the list begins with the head, in which KVM has put how many entries there are.
    std::memcpy(&head, list.data(), sizeof head);
    INVARIANT(head.entries <= room);
    entries = entriesOf(list, head.entries);
    return kDone;
  }
}

Failure readCpuid(int vcpuFd, uint32_t count, CpuidEntries& entries) {
  std::vector<uint8_t> list = listOf(count);
  if (const Failure failure = kvmCall(vcpuFd, kGet, argumentOf(list), "KVM_GET_CPUID2")) return failure;
  entries = entriesOf(list, count);
  return kDone;
}

Failure writeCpuid(int vcpuFd, const CpuidEntries& entries) {
  std::vector<uint8_t> list = listOf(countOf(entries));
  std::copy_n(entries.begin(), countOf(entries) * kEntrySize, list.begin() + sizeof(CpuidHead));
  return kvmCall(vcpuFd, kSet, argumentOf(list), "KVM_SET_CPUID2");
}

uint32_t countOf(const CpuidEntries& entries) { return static_cast<uint32_t>(entries.size() / kEntrySize); }

}  // namespace membacking
