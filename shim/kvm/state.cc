// The table of states, and the one call that reads or writes any of them.

#include "kvm/state.h"

#include <linux/kvm.h>

#include <cstring>
#include <vector>

#include "kvm/system.h"

namespace membacking {
namespace {

// Heads of lists, and what has more behind it. In C++, linux/kvm.h of some years gives structs with a list at the end a
// wrong size, and with it their requests wrong numbers.
struct CountOnly {
  uint32_t count;
};
struct CountAndFlags {
  uint32_t count;
  uint32_t flags;
};
struct Xsave {
  uint32_t words[1024];
};
constexpr unsigned long kGetXsave = _IOR(KVMIO, 0xa4, Xsave);
constexpr unsigned long kSetXsave = _IOW(KVMIO, 0xa5, Xsave);
constexpr unsigned long kGetXsave2 = _IOR(KVMIO, 0xcf, Xsave);
constexpr unsigned long kGetMsrIndexList = _IOWR(KVMIO, 0x02, CountOnly);
constexpr unsigned long kGetMsrs = _IOWR(KVMIO, 0x88, CountAndFlags);
constexpr unsigned long kSetMsrs = _IOW(KVMIO, 0x89, CountAndFlags);
constexpr unsigned long kSetGsiRouting = _IOW(KVMIO, 0x6a, CountAndFlags);

constexpr StateOwner kKvm = StateOwner::kKvm;
constexpr StateOwner kVm = StateOwner::kVm;
constexpr StateOwner kVcpu = StateOwner::kVcpu;

#define BOTH(name, owner, Struct, get, set) {name, owner, sizeof(Struct), 0, get, set, #get, #set}
#define CHIP(name, id) \
  {name, kVm, sizeof(kvm_irqchip), 0, KVM_GET_IRQCHIP, KVM_SET_IRQCHIP, "KVM_GET_IRQCHIP", "KVM_SET_IRQCHIP", id}
#define ORDER(name, Struct, set) {name, kVm, sizeof(Struct), 0, 0, set, nullptr, #set}

constexpr StateKind kStates[] = {
    BOTH("registers", kVcpu, kvm_regs, KVM_GET_REGS, KVM_SET_REGS),
    BOTH("specialRegisters", kVcpu, kvm_sregs, KVM_GET_SREGS, KVM_SET_SREGS),
    BOTH("fpu", kVcpu, kvm_fpu, KVM_GET_FPU, KVM_SET_FPU),
    {"xsave", kVcpu, sizeof(Xsave), 0, kGetXsave, kSetXsave, "KVM_GET_XSAVE", "KVM_SET_XSAVE"},
    BOTH("mpState", kVcpu, kvm_mp_state, KVM_GET_MP_STATE, KVM_SET_MP_STATE),
    BOTH("events", kVcpu, kvm_vcpu_events, KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS),
    {"tscKhz", kVcpu, 4, 0, KVM_GET_TSC_KHZ, KVM_SET_TSC_KHZ, "KVM_GET_TSC_KHZ", "KVM_SET_TSC_KHZ", -1, true},
    {"msrIndices", kKvm, sizeof(CountOnly), 4, kGetMsrIndexList, 0, "KVM_GET_MSR_INDEX_LIST", nullptr},
    BOTH("clock", kVm, kvm_clock_data, KVM_GET_CLOCK, KVM_SET_CLOCK),
    ORDER("msi", kvm_msi, KVM_SIGNAL_MSI),
    ORDER("irqfd", kvm_irqfd, KVM_IRQFD),
    {"gsiRoutes", kVm, sizeof(CountAndFlags), sizeof(kvm_irq_routing_entry), 0, kSetGsiRouting, nullptr,
     "KVM_SET_GSI_ROUTING"},
#ifdef __x86_64__  // Elsewhere KVM is refused when it is opened, and its headers have none of these.
    BOTH("xcrs", kVcpu, kvm_xcrs, KVM_GET_XCRS, KVM_SET_XCRS),
    BOTH("debugRegisters", kVcpu, kvm_debugregs, KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS),
    BOTH("localApic", kVcpu, kvm_lapic_state, KVM_GET_LAPIC, KVM_SET_LAPIC),
    {"msrs", kVcpu, sizeof(CountAndFlags), sizeof(kvm_msr_entry), kGetMsrs, kSetMsrs, "KVM_GET_MSRS", "KVM_SET_MSRS"},
    CHIP("pic0", KVM_IRQCHIP_PIC_MASTER),
    CHIP("pic1", KVM_IRQCHIP_PIC_SLAVE),
    CHIP("ioApic", KVM_IRQCHIP_IOAPIC),
    BOTH("pit", kVm, kvm_pit_state2, KVM_GET_PIT2, KVM_SET_PIT2),
#endif
};

#undef BOTH
#undef CHIP
#undef ORDER

/// Puts into the struct's first word what KVM wants there.
void address(const StateKind& kind, uint8_t* bytes, size_t length) {
  const uint64_t first = kind.entrySize != 0 ? (length - kind.size) / kind.entrySize : kind.selector;
  const auto word = static_cast<uint32_t>(first);
  // SAFETY: a list's head and a struct that is selected by a number begin with a word, and `length` is at least theirs.
  if (kind.entrySize != 0 || kind.selector >= 0) std::memcpy(bytes, &word, sizeof word);
}

/// Makes a request with a struct. `result` is what it returns.
Failure request(int fd, unsigned long number, const char* name, unsigned long argument, int& result) {
  if (number == 0) return {EINVAL, "ioctl", "there is no such request"};
  result = kvmIoctl(fd, number, argument);
  return result < 0 ? failedCall(name) : kDone;
}

}  // namespace

const StateKind* findState(const std::string& name) {
  for (const StateKind& kind : kStates) {
    if (name == kind.name) return &kind;
  }
  return nullptr;
}

void enlarge(StateKind& kind, size_t xsaveSize) {
  if (kind.get != kGetXsave || xsaveSize <= kind.size) return;
  kind.size = xsaveSize;
  kind.get = kGetXsave2;
  kind.getName = "KVM_GET_XSAVE2";
}

bool fits(const StateKind& kind, size_t bytes) {
  if (kind.entrySize == 0) return bytes == kind.size;
  return bytes >= kind.size && (bytes - kind.size) % kind.entrySize == 0;
}

Failure readState(int fd, const StateKind& kind, uint8_t* bytes, size_t length, int& result) {
  if (kind.isNumber) {
    if (const Failure failure = request(fd, kind.get, kind.getName, 0, result)) return failure;
    // SAFETY: fits() has found the four bytes of a number.
    std::memcpy(bytes, &result, sizeof result);
    return kDone;
  }
  address(kind, bytes, length);
  // SAFETY: KVM writes the struct of this request, or as many entries as its head says: fits() has found that many.
  return request(fd, kind.get, kind.getName, reinterpret_cast<unsigned long>(bytes), result);
}

Failure writeState(int fd, const StateKind& kind, const uint8_t* bytes, size_t length, int& result) {
  if (kind.isNumber) {
    uint32_t value = 0;
    // SAFETY: fits() has found the four bytes of a number.
    std::memcpy(&value, bytes, sizeof value);
    return request(fd, kind.set, kind.setName, value, result);
  }
  std::vector<uint8_t> copy(bytes, bytes + length);
  address(kind, copy.data(), length);
  // SAFETY: KVM reads the struct of this request, or as many entries as its head says.
  return request(fd, kind.set, kind.setName, reinterpret_cast<unsigned long>(copy.data()), result);
}

}  // namespace membacking
