// Virtual machines as JavaScript calls them.

#include "napi/vm_handle.h"

#include <memory>
#include <utility>

#include "kvm/vcpu.h"
#include "napi/kvm_handle.h"
#include "napi/state_calls.h"
#include "napi/vcpu_handle.h"

namespace membacking {

VmHandle::VmHandle(const Napi::CallbackInfo& info) : Handle(info) {
  bind<&VmHandle::pause>(info, "pause");
  bind<&VmHandle::resume>(info, "resume");
}

void VmHandle::define(Napi::Env env, Napi::Object exports) {
  Handle::define(env, exports,
                 {
                     InstanceAccessor<&VmHandle::fd>("fd"),
                     InstanceAccessor<&VmHandle::slotLimit>("slotLimit"),
                     InstanceMethod<&VmHandle::checkExtension>("checkExtension"),
                     InstanceMethod<&VmHandle::createVcpu>("createVcpu"),
                     InstanceMethod<&VmHandle::disableQuirks>("disableQuirks"),
                     InstanceMethod<&VmHandle::setTssAddress>("setTssAddress"),
                     InstanceMethod<&VmHandle::createIrqchip>("createIrqchip"),
                     InstanceMethod<&VmHandle::createPit>("createPit"),
                     InstanceMethod<&VmHandle::irqLine>("irqLine"),
                     InstanceMethod<&VmHandle::passState<false>>("readState"),
                     InstanceMethod<&VmHandle::passState<true>>("writeState"),
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

void VmHandle::disableQuirks(const Napi::CallbackInfo& info) {
  check(info.Env(), core(info).disableQuirks(toU32(info[0], "quirks")));
}

void VmHandle::setTssAddress(const Napi::CallbackInfo& info) {
  check(info.Env(), core(info).setTssAddress(toU32(info[0], "address")));
}

void VmHandle::createIrqchip(const Napi::CallbackInfo& info) { check(info.Env(), core(info).createIrqchip()); }

void VmHandle::createPit(const Napi::CallbackInfo& info) { check(info.Env(), core(info).createPit()); }

void VmHandle::irqLine(const Napi::CallbackInfo& info) {
  Vm& vm = core(info);
  const uint32_t gsi = toU32(info[0], "gsi");
  check(info.Env(), vm.setIrqLine(gsi, toBool(info[1], "level")));
}

template <bool isWrite>
Napi::Value VmHandle::passState(const Napi::CallbackInfo& info) {
  const Vm& vm = core(info);
  const StateKind* kind = findState(toString(info[0], "name"));
  if (kind == nullptr || kind->owner == StateOwner::kVcpu) throwNoState(info.Env());
  return membacking::passState<isWrite>(info, *kind, vm.fdOf(kind->owner));
}

Napi::Value VmHandle::pause(const Napi::CallbackInfo& info) {
  core(info).pause();
  return info.Env().Undefined();
}

Napi::Value VmHandle::resume(const Napi::CallbackInfo& info) {
  if (!core(info).isPaused()) throwCoded(info.Env(), "ERR_NOT_PAUSED", "This Vm is not paused");
  core(info).resume();
  return info.Env().Undefined();
}

void VmHandle::close(const Napi::CallbackInfo& info) {
  if (!isOpen()) return;
  core(info).shutDown();
  release();
}

}  // namespace membacking
