// KVM: the system and the virtual machine with its memory slots.
#pragma once

#include <napi.h>
#include <pthread.h>

#include <atomic>
#include <memory>
#include <vector>

#include "host/fd.h"
#include "handle.h"
#include "host/reservation.h"

namespace membacking {

class Vcpu;

/// ioctl that is repeated when a signal interrupts it. -1 and errno, as the call itself.
int kvmIoctl(int fd, unsigned long request, unsigned long argument);

/// /dev/kvm.
struct Kvm {
  FileDescriptor fd;

  static Failure open(std::shared_ptr<Kvm>& result);
};

/// A virtual machine. It keeps a share of every reservation that its slots show, because a guest with a slot over
/// memory that is somebody else's by now would read and write that. Slots are set from one thread at a time.
class Vm : public std::enable_shared_from_this<Vm> {
 public:
  static Failure create(const std::shared_ptr<Kvm>& kvm, std::shared_ptr<Vm>& result);
  ~Vm();

  int fd() const { return fd_.get(); }
  const Kvm& kvm() const { return *kvm_; }
  uint32_t slotLimit() const { return slotLimit_; }
  bool isShutDown() const { return isShutDown_; }

  bool hasSlot(uint32_t slot) const { return slot < slots_.size() && slots_[slot] != nullptr; }
  /// The slot is free and the range is inside the reservation.
  Failure addSlot(uint32_t slot, uint64_t gpa, uint64_t length, const std::shared_ptr<Reservation>& reservation,
                  uint64_t offset, bool isReadOnly);
  Failure deleteSlot(uint32_t slot);

  Failure createVcpu(uint32_t id, std::shared_ptr<Vcpu>& result);

  /// Brings all vCPUs out of the guest and keeps them out; returns when they are. Runs wait meanwhile, unless they are
  /// kicked, or are this thread's: those fail with EBUSY. As many resume() as pause() let them go on.
  void pause();
  void resume();
  bool isPaused() const { return pauses_ != 0; }
  bool isPausedBy(pthread_t thread) const { return ::pthread_equal(pauser_, thread) != 0; }

  /// Takes all memory away from the guest and makes running vCPUs return. Ends the process if memory cannot be taken
  /// away: a guest that keeps access to memory which is used for something else is worse.
  void shutDown();

 private:
  std::shared_ptr<Kvm> kvm_;
  FileDescriptor fd_;
  uint32_t slotLimit_ = 0;
  std::atomic<bool> isShutDown_ = false;
  uint32_t pauses_ = 0;
  /// Meant while there are pauses.
  std::atomic<pthread_t> pauser_ = {};
  /// By slot number: whose memory it shows; null for a free one.
  std::vector<std::shared_ptr<Reservation>> slots_;
  std::vector<std::weak_ptr<Vcpu>> vcpus_;

  template <typename Do>
  void forEachVcpu(Do what) const;
};

/// Kvm in JavaScript.
class KvmHandle : public Handle<KvmHandle, Kvm> {
 public:
  static constexpr napi_type_tag kTag{0x6d656d6261636b69, 0x6b766d2073797374};
  static constexpr const char* kName = "Kvm";

  using Handle::Handle;
  static void define(Napi::Env env, Napi::Object exports);

 private:
  static Napi::Value open(const Napi::CallbackInfo& info);
  Napi::Value checkExtension(const Napi::CallbackInfo& info);
  Napi::Value createVm(const Napi::CallbackInfo& info);
  void close(const Napi::CallbackInfo& info);
};

/// Vm in JavaScript.
class VmHandle : public Handle<VmHandle, Vm> {
 public:
  static constexpr napi_type_tag kTag{0x6d656d6261636b69, 0x766d206d61636869};
  static constexpr const char* kName = "Vm";

  using Handle::Handle;
  static void define(Napi::Env env, Napi::Object exports);

 private:
  Napi::Value fd(const Napi::CallbackInfo& info);
  Napi::Value slotLimit(const Napi::CallbackInfo& info);
  Napi::Value checkExtension(const Napi::CallbackInfo& info);
  Napi::Value createVcpu(const Napi::CallbackInfo& info);
  void setTssAddress(const Napi::CallbackInfo& info);
  void createIrqchip(const Napi::CallbackInfo& info);
  void createPit(const Napi::CallbackInfo& info);
  void irqLine(const Napi::CallbackInfo& info);
  void pause(const Napi::CallbackInfo& info);
  void resume(const Napi::CallbackInfo& info);
  void close(const Napi::CallbackInfo& info);

  void call(const Napi::CallbackInfo& info, unsigned long request, unsigned long argument, const char* name);
};

}  // namespace membacking
