// Virtual machines: the ioctls for memory slots and interrupts, and how vCPUs are paused.

#include "kvm/vm.h"

#include <linux/kvm.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "abi.h"
#include "host/invariant.h"
#include "kvm/vcpu.h"

namespace membacking {

template <typename Struct>
static unsigned long argumentOf(Struct& value) {
  return reinterpret_cast<unsigned long>(&value);
}

Failure Vm::create(const std::shared_ptr<Kvm>& kvm, std::shared_ptr<Vm>& result) {
  auto vm = std::make_shared<Vm>();
  vm->kvm_ = kvm;
  vm->fd_ = FileDescriptor(kvmIoctl(kvm->fd.get(), KVM_CREATE_VM, 0));
  if (!vm->fd_.isOpen()) return failedCall("KVM_CREATE_VM");
  if (const Failure failure = vm->readSlotLimit()) return failure;
  result = std::move(vm);
  return kDone;
}

Failure Vm::adopt(const std::shared_ptr<Kvm>& kvm, int fd, uint32_t slotBase, uint32_t slotLimit,
                  std::shared_ptr<Vm>& result) {
  auto vm = std::make_shared<Vm>();
  vm->kvm_ = kvm;
  vm->fd_ = FileDescriptor::duplicate(fd);
  if (!vm->fd_.isOpen()) return failedCall("fcntl");
  // KVM as a whole answers that too, but has a version.
  if (kvmIoctl(vm->fd(), KVM_GET_API_VERSION, 0) >= 0 || vm->readSlotLimit()) {
    return {ENOTTY, "KVM_CHECK_EXTENSION", "the descriptor is no virtual machine's"};
  }
  if (slotBase >= vm->slotLimit_ || slotLimit > vm->slotLimit_ - slotBase) {
    return {ERANGE, "KVM_CHECK_EXTENSION", "the virtual machine has not so many slots"};
  }
  vm->slotBase_ = slotBase;
  vm->slotLimit_ = slotLimit != 0 ? slotLimit : vm->slotLimit_ - slotBase;
  result = std::move(vm);
  return kDone;
}

int Vm::fdOf(StateOwner owner) const {
  INVARIANT(owner != StateOwner::kVcpu);
  return owner == StateOwner::kVm ? fd() : kvm_->fd.get();
}

Failure Vm::readSlotLimit() {
  int limit = 0;
  if (const Failure failure = checkKvmExtension(fd(), KVM_CAP_NR_MEMSLOTS, limit)) return failure;
  // Kernels that do not say (0) have 32.
  constexpr uint32_t kUnsaidLimit = 32;
  slotLimit_ = limit == 0 ? kUnsaidLimit : std::min<uint32_t>(limit, abi::MAX_SLOTS);
  return kDone;
}

Vm::~Vm() { shutDown(); }

Failure Vm::addSlot(uint32_t slot, uint64_t gpa, uint64_t length, const Reservation::Share& stretch,
                    uint64_t offset, bool isReadOnly) {
  if (isShutDown_) return {EBADF, "KVM_SET_USER_MEMORY_REGION", "the VM is closed"};
  INVARIANT(slot < slotLimit_ && !hasSlot(slot) && stretch->contains(offset, length));
  if (slot >= slots_.size()) slots_.resize(slot + 1);
  kvm_userspace_memory_region region = {};
  region.slot = slotBase_ + slot;
  region.flags = isReadOnly ? KVM_MEM_READONLY : 0;
  region.guest_phys_addr = gpa;
  region.memory_size = length;
  region.userspace_addr = stretch->addressOf(offset);
  // SAFETY: KVM will read and write [userspace_addr, + length): inside the stretch, as the caller proved, and the
  // table below keeps the stretch as long as the slot.
  if (const Failure failure = KVM_CALL(fd(), KVM_SET_USER_MEMORY_REGION, argumentOf(region))) return failure;
  slots_[slot] = stretch;
  return kDone;
}

Failure Vm::deleteSlot(uint32_t slot) {
  INVARIANT(hasSlot(slot));
  kvm_userspace_memory_region region = {};
  region.slot = slotBase_ + slot;
  if (const Failure failure = KVM_CALL(fd(), KVM_SET_USER_MEMORY_REGION, argumentOf(region))) return failure;
  slots_[slot].reset();
  return kDone;
}

/// Registers an event of an eventfd, or with KVM_IOEVENTFD_FLAG_DEASSIGN takes it away.
static Failure setIoEventFd(int vm, const VmEvent& event, uint32_t flags) {
  kvm_ioeventfd request = {};
  request.addr = event.gpa;
  request.len = static_cast<uint32_t>(event.length);
  request.fd = event.fd;
  request.flags = flags | (event.hasMatch ? 1 << kvm_ioeventfd_flag_nr_datamatch : 0);
  request.datamatch = event.match;
  return KVM_CALL(vm, KVM_IOEVENTFD, argumentOf(request));
}

/// Zone of an event whose writes are kept. False: KVM has no such length.
static bool toZone(const VmEvent& event, kvm_coalesced_mmio_zone& zone) {
  zone = {};
  zone.addr = event.gpa;
  zone.size = static_cast<uint32_t>(event.length);
  return zone.size == event.length;
}

Failure Vm::addEvent(const VmEvent& event) {
  if (isShutDown_) return {EBADF, "KVM_IOEVENTFD", "the VM is closed"};
  if (event.fd >= 0) return setIoEventFd(fd(), event, 0);
  kvm_coalesced_mmio_zone zone;
  if (!toZone(event, zone)) return {EINVAL, "KVM_REGISTER_COALESCED_MMIO", "a range has less than 4 GiB"};
  return KVM_CALL(fd(), KVM_REGISTER_COALESCED_MMIO, argumentOf(zone));
}

Failure Vm::removeEvent(const VmEvent& event) {
  if (event.fd >= 0) return setIoEventFd(fd(), event, 1 << kvm_ioeventfd_flag_nr_deassign);
  kvm_coalesced_mmio_zone zone;
  INVARIANT(toZone(event, zone));
  return KVM_CALL(fd(), KVM_UNREGISTER_COALESCED_MMIO, argumentOf(zone));
}

Failure Vm::createVcpu(uint32_t id, std::shared_ptr<Vcpu>& result) {
  if (const Failure failure = Vcpu::create(shared_from_this(), id, result)) return failure;
  vcpus_.push_back(result);
  if (isPaused()) result->hold();
  return kDone;
}

template <typename Do>
void Vm::forEachVcpu(Do what) const {
  for (const std::weak_ptr<Vcpu>& weak : vcpus_) {
    if (const std::shared_ptr<Vcpu> vcpu = weak.lock()) what(*vcpu);
  }
}

void Vm::pause() {
  if (pauses_++ != 0) return;
  pauser_ = ::pthread_self();
  // All are called before any is waited for.
  forEachVcpu([](Vcpu& vcpu) { vcpu.hold(); });
  forEachVcpu([](Vcpu& vcpu) { vcpu.waitUntilHeld(); });
}

void Vm::resume() {
  INVARIANT(isPaused());
  if (--pauses_ != 0) return;
  forEachVcpu([](Vcpu& vcpu) { vcpu.letGo(); });
}

void Vm::shutDown() {
  const auto endRun = [](Vcpu& vcpu) {
    if (vcpu.isClaimed()) vcpu.kick();
  };
  // Runs that are going on end as those that are kicked; then later ones are refused; then those that came in between
  // end too.
  forEachVcpu(endRun);
  isShutDown_ = true;
  forEachVcpu(endRun);
  for (uint32_t slot = 0; slot != slots_.size(); slot++) {
    if (!hasSlot(slot)) continue;
    if (const Failure failure = deleteSlot(slot)) {
      std::fprintf(stderr, "membacking: memory slot %u cannot be taken away from the guest: %s\n", slot,
                   std::strerror(failure.error));
      std::abort();
    }
  }
}

Failure Vm::disableQuirks(uint32_t quirks) {
  kvm_enable_cap cap = {};
  cap.cap = KVM_CAP_DISABLE_QUIRKS2;
  cap.args[0] = quirks;
  return KVM_CALL(fd(), KVM_ENABLE_CAP, argumentOf(cap));
}

Failure Vm::setTssAddress(uint32_t gpa) { return KVM_CALL(fd(), KVM_SET_TSS_ADDR, gpa); }

Failure Vm::createIrqchip() { return KVM_CALL(fd(), KVM_CREATE_IRQCHIP, 0); }

Failure Vm::createPit() {
  // kvm_pit_config, which only the headers of x86 have.
  struct {
    uint32_t flags;
    uint32_t padding[15];
  } config = {1 /* KVM_PIT_SPEAKER_DUMMY */, {}};
  return kvmCall(fd(), _IOW(KVMIO, 0x77, config), argumentOf(config), "KVM_CREATE_PIT2");
}

Failure Vm::setIrqLine(uint32_t gsi, bool isRaised) {
  kvm_irq_level level = {};
  level.irq = gsi;
  level.level = isRaised;
  return KVM_CALL(fd(), KVM_IRQ_LINE, argumentOf(level));
}

}  // namespace membacking
