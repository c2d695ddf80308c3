// The ioctls of /dev/kvm and of a virtual machine: capabilities, memory slots, interrupts.

#include "kvm/kvm.h"

#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "abi.h"
#include "kvm/vcpu.h"

namespace membacking {

int kvmIoctl(int fd, unsigned long request, unsigned long argument) {
  int result = 0;
  do {
    // SAFETY: the requests take a number or a pointer to their own struct, as linux/kvm.h says; callers pass that.
    result = ::ioctl(fd, request, argument);
  } while (result < 0 && errno == EINTR);
  return result;
}

template <typename Struct>
static unsigned long argumentOf(Struct& value) {
  return reinterpret_cast<unsigned long>(&value);
}

Failure Kvm::open(std::shared_ptr<Kvm>& result) {
  auto kvm = std::make_shared<Kvm>();
  kvm->fd = FileDescriptor(::open("/dev/kvm", O_RDWR | O_CLOEXEC));
  if (!kvm->fd.isOpen()) return failedCall("open");
  const int version = kvmIoctl(kvm->fd.get(), KVM_GET_API_VERSION, 0);
  if (version < 0) return failedCall("KVM_GET_API_VERSION");
  if (version != KVM_API_VERSION) return {ENODEV, "KVM_GET_API_VERSION", "this KVM has another API version"};
  result = std::move(kvm);
  return kDone;
}

Failure Vm::create(const std::shared_ptr<Kvm>& kvm, std::shared_ptr<Vm>& result) {
  auto vm = std::make_shared<Vm>();
  vm->kvm_ = kvm;
  vm->fd_ = FileDescriptor(kvmIoctl(kvm->fd.get(), KVM_CREATE_VM, 0));
  if (!vm->fd_.isOpen()) return failedCall("KVM_CREATE_VM");
  const int limit = kvmIoctl(vm->fd(), KVM_CHECK_EXTENSION, KVM_CAP_NR_MEMSLOTS);
  if (limit < 0) return failedCall("KVM_CHECK_EXTENSION");
  // Kernels that do not say (0) have 32.
  constexpr uint32_t kUnsaidLimit = 32;
  vm->slotLimit_ = limit == 0 ? kUnsaidLimit : std::min<uint32_t>(limit, abi::MAX_SLOTS);
  result = std::move(vm);
  return kDone;
}

Vm::~Vm() { shutDown(); }

Failure Vm::addSlot(uint32_t slot, uint64_t gpa, uint64_t length, const std::shared_ptr<Reservation>& reservation,
                    uint64_t offset, bool isReadOnly) {
  if (isShutDown_) return {EBADF, "KVM_SET_USER_MEMORY_REGION", "the VM is closed"};
  if (slot >= slots_.size()) slots_.resize(slot + 1);
  kvm_userspace_memory_region region = {};
  region.slot = slot;
  region.flags = isReadOnly ? KVM_MEM_READONLY : 0;
  region.guest_phys_addr = gpa;
  region.memory_size = length;
  region.userspace_addr = reservation->mapping().base() + offset;
  // SAFETY: KVM will read and write [userspace_addr, + length): inside the reservation, as the caller proved, and the
  // table below keeps the reservation as long as the slot.
  if (kvmIoctl(fd(), KVM_SET_USER_MEMORY_REGION, argumentOf(region)) < 0) {
    return failedCall("KVM_SET_USER_MEMORY_REGION");
  }
  slots_[slot] = reservation;
  return kDone;
}

Failure Vm::deleteSlot(uint32_t slot) {
  kvm_userspace_memory_region region = {};
  region.slot = slot;
  if (kvmIoctl(fd(), KVM_SET_USER_MEMORY_REGION, argumentOf(region)) < 0) {
    return failedCall("KVM_SET_USER_MEMORY_REGION");
  }
  slots_[slot].reset();
  return kDone;
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
  if (--pauses_ != 0) return;
  forEachVcpu([](Vcpu& vcpu) { vcpu.letGo(); });
}

void Vm::shutDown() {
  isShutDown_ = true;
  forEachVcpu([](Vcpu& vcpu) { vcpu.kick(); });
  for (uint32_t slot = 0; slot != slots_.size(); slot++) {
    if (!hasSlot(slot)) continue;
    if (const Failure failure = deleteSlot(slot)) {
      std::fprintf(stderr, "membacking: memory slot %u cannot be taken away from the guest: %s\n", slot,
                   std::strerror(failure.error));
      std::abort();
    }
  }
}

void KvmHandle::define(Napi::Env env, Napi::Object exports) {
  Handle::define(env, exports,
                 {
                     StaticMethod<&KvmHandle::open>("open"),
                     InstanceMethod<&KvmHandle::checkExtension>("checkExtension"),
                     InstanceMethod<&KvmHandle::createVm>("createVm"),
                     InstanceMethod<&KvmHandle::close>("close"),
                 });
}

Napi::Value KvmHandle::open(const Napi::CallbackInfo& info) {
  std::shared_ptr<Kvm> kvm;
  check(info.Env(), Kvm::open(kvm));
  return wrap(info.Env(), std::move(kvm));
}

static Napi::Value readExtension(const Napi::CallbackInfo& info, int fd) {
  const int result = kvmIoctl(fd, KVM_CHECK_EXTENSION, toU32(info[0], "capability"));
  if (result < 0) throw systemError(info.Env(), failedCall("KVM_CHECK_EXTENSION"));
  return Napi::Number::New(info.Env(), result);
}

Napi::Value KvmHandle::checkExtension(const Napi::CallbackInfo& info) {
  return readExtension(info, core(info).fd.get());
}

Napi::Value KvmHandle::createVm(const Napi::CallbackInfo& info) {
  std::shared_ptr<Vm> vm;
  check(info.Env(), Vm::create(shared(info.Env()), vm));
  return VmHandle::wrap(info.Env(), std::move(vm));
}

void KvmHandle::close(const Napi::CallbackInfo&) { release(); }

void VmHandle::define(Napi::Env env, Napi::Object exports) {
  Handle::define(env, exports,
                 {
                     InstanceAccessor<&VmHandle::fd>("fd"),
                     InstanceAccessor<&VmHandle::slotLimit>("slotLimit"),
                     InstanceMethod<&VmHandle::checkExtension>("checkExtension"),
                     InstanceMethod<&VmHandle::createVcpu>("createVcpu"),
                     InstanceMethod<&VmHandle::setTssAddress>("setTssAddress"),
                     InstanceMethod<&VmHandle::createIrqchip>("createIrqchip"),
                     InstanceMethod<&VmHandle::createPit>("createPit"),
                     InstanceMethod<&VmHandle::irqLine>("irqLine"),
                     InstanceMethod<&VmHandle::pause>("pause"),
                     InstanceMethod<&VmHandle::resume>("resume"),
                     InstanceMethod<&VmHandle::close>("close"),
                 });
}

Napi::Value VmHandle::fd(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), core(info).fd()); }

Napi::Value VmHandle::slotLimit(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), core(info).slotLimit());
}

Napi::Value VmHandle::checkExtension(const Napi::CallbackInfo& info) { return readExtension(info, core(info).fd()); }

Napi::Value VmHandle::createVcpu(const Napi::CallbackInfo& info) {
  std::shared_ptr<Vcpu> vcpu;
  check(info.Env(), core(info).createVcpu(toU32(info[0], "id"), vcpu));
  return VcpuHandle::wrap(info.Env(), std::move(vcpu));
}

#define CALL(request, argument) call(info, request, argument, #request)

void VmHandle::call(const Napi::CallbackInfo& info, unsigned long request, unsigned long argument, const char* name) {
  if (kvmIoctl(core(info).fd(), request, argument) < 0) throw systemError(info.Env(), failedCall(name));
}

void VmHandle::setTssAddress(const Napi::CallbackInfo& info) { CALL(KVM_SET_TSS_ADDR, toU32(info[0], "address")); }

void VmHandle::createIrqchip(const Napi::CallbackInfo& info) { CALL(KVM_CREATE_IRQCHIP, 0); }

void VmHandle::createPit(const Napi::CallbackInfo& info) {
  kvm_pit_config config = {};
  config.flags = KVM_PIT_SPEAKER_DUMMY;
  CALL(KVM_CREATE_PIT2, argumentOf(config));
}

void VmHandle::irqLine(const Napi::CallbackInfo& info) {
  kvm_irq_level level = {};
  level.irq = toU32(info[0], "gsi");
  level.level = toBool(info[1], "level");
  CALL(KVM_IRQ_LINE, argumentOf(level));
}

void VmHandle::pause(const Napi::CallbackInfo& info) { core(info).pause(); }

void VmHandle::resume(const Napi::CallbackInfo& info) {
  if (!core(info).isPaused()) throwCoded(info.Env(), "ERR_NOT_PAUSED", "This Vm is not paused");
  core(info).resume();
}

void VmHandle::close(const Napi::CallbackInfo& info) {
  if (!isOpen()) return;
  core(info).shutDown();
  release();
}

}  // namespace membacking
