// Virtual machines of KVM: memory slots, interrupts, pauses.
#pragma once

#include <pthread.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "host/fd.h"
#include "host/reservation.h"
#include "kvm/state.h"
#include "kvm/system.h"

namespace membacking {

class Vcpu;

/// Writes of a guest that do not exit.
struct VmEvent {
  uint64_t gpa;
  /// Bytes; of a write to an eventfd, 0 for any number.
  uint64_t length;
  /// Value that counts, if one does.
  uint64_t match;
  bool hasMatch;
  /// Eventfd that is signalled; -1: writes are kept for Vcpu::takeWrites().
  int fd;
};

/// One virtual machine. It keeps a share of every stretch that its slots show, because a guest with a slot over
/// memory that is somebody else's by now would read and write that. Slots are set from one thread at a time.
class Vm : public std::enable_shared_from_this<Vm> {
 public:
  static Failure create(const std::shared_ptr<Kvm>& kvm, std::shared_ptr<Vm>& result);
  /// Makes one of a duplicate of the descriptor of a virtual machine that somebody else has made and goes on using. Its
  /// slots are those from `slotBase` on, no more than `slotLimit`; 0 is as many as there are. ENOTTY: the descriptor is
  /// no virtual machine's; ERANGE: there are no such slots.
  static Failure adopt(const std::shared_ptr<Kvm>& kvm, int fd, uint32_t slotBase, uint32_t slotLimit,
                       std::shared_ptr<Vm>& result);
  ~Vm();

  int fd() const { return fd_.get(); }
  const Kvm& kvm() const { return *kvm_; }
  /// Descriptor that a state's requests take. The owner is no vCPU.
  int fdOf(StateOwner owner) const;
  uint32_t slotLimit() const { return slotLimit_; }
  bool isShutDown() const { return isShutDown_; }

  /// Whether a memory slot is in use.
  bool hasSlot(uint32_t slot) const { return slot < slots_.size() && slots_[slot] != nullptr; }
  /// Shows `length` bytes of a stretch from `offset` on at `gpa`. The slot is free, the range inside the stretch.
  Failure addSlot(uint32_t slot, uint64_t gpa, uint64_t length, const Reservation::Share& stretch, uint64_t offset,
                  bool isReadOnly);
  /// Takes a slot that is in use away.
  Failure deleteSlot(uint32_t slot);

  /// Lets writes not exit. EEXIST: they are another event's already; ENOSPC: there are as many as there can be.
  Failure addEvent(const VmEvent& event);
  /// Takes addEvent() back.
  Failure removeEvent(const VmEvent& event);
  /// Held by who takes writes that were kept: all vCPUs have one ring.
  std::mutex& keptWrites() { return keptWrites_; }

  Failure createVcpu(uint32_t id, std::shared_ptr<Vcpu>& result);

  /// Switches quirks of KVM off (KVM_X86_QUIRK_*, those that KVM_CAP_DISABLE_QUIRKS2 says): not on again.
  Failure disableQuirks(uint32_t quirks);
  Failure setTssAddress(uint32_t gpa);
  Failure createIrqchip();
  Failure createPit();
  Failure setIrqLine(uint32_t gsi, bool isRaised);

  /// Brings all vCPUs out of the guest, returns when they are, and keeps them out. Runs wait meanwhile, unless they are
  /// kicked, or are this thread's: those fail with EBUSY. As many resume() as pause() let them go on.
  void pause();
  void resume();
  bool isPaused() const { return pauses_ != 0; }
  bool isPausedBy(pthread_t thread) const { return ::pthread_equal(pauser_, thread) != 0; }

  /// Takes all memory away from the guest and makes running vCPUs return. Ends the process if memory cannot be taken
  /// away: a guest that keeps access to memory which is used for something else is worse.
  void shutDown();

 private:
  Failure readSlotLimit();

  std::shared_ptr<Kvm> kvm_;
  FileDescriptor fd_;
  /// KVM's number of slot 0.
  uint32_t slotBase_ = 0;
  uint32_t slotLimit_ = 0;
  std::atomic<bool> isShutDown_ = false;
  uint32_t pauses_ = 0;
  /// Thread that made the first of the pauses; means nothing without any.
  std::atomic<pthread_t> pauser_ = {};
  /// Stretches that the slots show, by slot number; null for a free one.
  std::vector<Reservation::Share> slots_;
  std::vector<std::weak_ptr<Vcpu>> vcpus_;
  std::mutex keptWrites_;

  template <typename Do>
  void forEachVcpu(Do what) const;
};

}  // namespace membacking
