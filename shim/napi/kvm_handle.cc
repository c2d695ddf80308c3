// KVM as JavaScript calls it.

#include "napi/kvm_handle.h"

#include <limits>
#include <memory>
#include <utility>

#include "kvm/cpuid.h"
#include "kvm/vm.h"
#include "napi/exchange.h"
#include "napi/vm_handle.h"

namespace membacking {

void KvmHandle::define(Napi::Env env, Napi::Object exports) {
  Handle::define(env, exports,
                 {
                     StaticMethod<&KvmHandle::open>("open"),
                     StaticMethod<&KvmHandle::adopt>("adopt"),
                     InstanceAccessor<&KvmHandle::fd>("fd"),
                     InstanceMethod<&KvmHandle::checkExtension>("checkExtension"),
                     InstanceMethod<&KvmHandle::readSupportedCpuid>("readSupportedCpuid"),
                     InstanceMethod<&KvmHandle::createVm>("createVm"),
                     InstanceMethod<&KvmHandle::adoptVm>("adoptVm"),
                     InstanceMethod<&KvmHandle::close>("close"),
                 });
}

Napi::Value KvmHandle::open(const Napi::CallbackInfo& info) {
  std::shared_ptr<Kvm> kvm;
  check(info.Env(), Kvm::open(kvm));
  return wrap(info.Env(), std::move(kvm));
}

Napi::Value KvmHandle::adopt(const Napi::CallbackInfo& info) {
  std::shared_ptr<Kvm> kvm;
  check(info.Env(), Kvm::adopt(toFd(info[0]), kvm));
  return wrap(info.Env(), std::move(kvm));
}

Napi::Value KvmHandle::fd(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), core(info).fd.get());
}

Napi::Value readExtension(const Napi::CallbackInfo& info, int fd) {
  int result = 0;
  check(info.Env(), checkKvmExtension(fd, toU32(info[0], "capability"), result));
  return Napi::Number::New(info.Env(), result);
}

Napi::Value KvmHandle::checkExtension(const Napi::CallbackInfo& info) {
  return readExtension(info, core(info).fd.get());
}

Napi::Value KvmHandle::readSupportedCpuid(const Napi::CallbackInfo& info) {
  CpuidEntries entries;
  check(info.Env(), membacking::readSupportedCpuid(core(info).fd.get(), entries));
  return copied(info.Env(), entries);
}

Napi::Value KvmHandle::createVm(const Napi::CallbackInfo& info) {
  std::shared_ptr<Vm> vm;
  check(info.Env(), Vm::create(shared(info.Env()), vm));
  return VmHandle::wrap(info.Env(), std::move(vm));
}

Napi::Value KvmHandle::adoptVm(const Napi::CallbackInfo& info) {
  std::shared_ptr<Vm> vm;
  const uint32_t slotBase = toU32(info[1], "slotBase");
  check(info.Env(), Vm::adopt(shared(info.Env()), toFd(info[0]), slotBase, toU32(info[2], "slotLimit"), vm));
  return VmHandle::wrap(info.Env(), std::move(vm));
}

void KvmHandle::close(const Napi::CallbackInfo&) { release(); }

}  // namespace membacking
