// A vCPU: its registers, running it, and kicking it out of the guest from any thread.
#pragma once

#include <pthread.h>

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>

#include "host/fd.h"
#include "host/mapping.h"
#include "kvm/cpuid.h"

struct kvm_run;

namespace membacking {

class Vm;

/// Exit of a run. JavaScript reads it, and writes `data` to answer a read of the guest: it goes to the guest
/// with the next run.
struct ExitFacts {
  /// KVM_EXIT_*. A kick is KVM_EXIT_INTR; bad backing is KVM_EXIT_MEMORY_FAULT, however KVM reported it.
  uint32_t reason;
  /// Port and MMIO exits, 1: the guest writes.
  uint32_t isWrite;
  uint32_t port;
  /// Bytes: of one item at a port, of an MMIO access.
  uint32_t size;
  /// Items at a port: more than one for string instructions.
  uint32_t count;
  /// Internal error: suberror. System event: type.
  uint32_t detail;
  /// 1: the run ended because of a kick.
  uint32_t isKicked;
  /// Memory fault, 1: KVM told where. MMIO: always 1.
  uint32_t isGpaKnown;
  uint64_t gpa;
  /// Failed entry: the hardware's reason.
  uint64_t hardwareReason;
  /// size * count bytes.
  uint8_t data[4096];
};

/// Whether nobody waits for a run any more, so that it has to end. Asked on the run's thread, now and then; an empty
/// function is not asked.
using IsUnwanted = std::function<bool()>;

/// Registers that KVM reads and writes together, as one struct: kvm_regs, kvm_sregs.
enum class Registers { kGeneral, kSpecial };

/// Bytes of the struct.
size_t sizeOf(Registers set);

class Vcpu {
 public:
  static Failure create(const std::shared_ptr<Vm>& vm, uint32_t id, std::shared_ptr<Vcpu>& result);
  ~Vcpu();

  uint64_t token() const { return token_; }

  /// KVM makes every call on a vCPU wait for a run to end; here the second is refused. False: it is in use.
  bool claim() { return !isClaimed_.exchange(true); }
  void unclaim() { isClaimed_ = false; }

  // For who holds the claim.

  /// Gives the guest the answer in `facts`, if it was `facts` that had the question.
  void answer(const ExitFacts& facts);
  /// Runs until an exit. On failure there was none. While the VM is paused, the run waits.
  Failure run(const IsUnwanted& isUnwanted) { return enter(false, isUnwanted); }
  /// Only finishes the instruction that the last exit interrupted; KVM_EXIT_INTR when that is done. Another exit when
  /// the instruction has more to ask or to say.
  Failure finish(const IsUnwanted& isUnwanted) { return enter(true, isUnwanted); }
  void readExit(ExitFacts& facts);

  /// `bytes` has room for sizeOf(set).
  Failure readRegisters(Registers set, uint8_t* bytes);
  Failure writeRegisters(Registers set, const uint8_t* bytes);
  Failure readCpuid(CpuidEntries& entries) const { return membacking::readCpuid(fd(), cpuidCount_, entries); }
  /// Before the first run.
  Failure writeCpuid(const CpuidEntries& entries);

  /// From any thread: makes the run that is going on, or else the next one, end with KVM_EXIT_INTR. Several before
  /// that count as one.
  void kick();
  /// From any thread: as long as it is wanted, every run ends at once with KVM_EXIT_INTR, the one that is going on too.
  void setEnding(bool isWanted);
  /// From any thread: the run that is going on, or else the next one, finds out whether it is still waited for.
  void doubt();

  // For Vm::pause(). A run that is held is out of the guest, and goes on when it is let go: nobody is told.
  void hold();
  void waitUntilHeld();
  void letGo();

 private:
  kvm_run& shared() const;
  int fd() const { return fd_.get(); }
  Failure enter(bool onlyFinish, const IsUnwanted& isUnwanted);
  bool mustLeave() const;
  void leaveGuest();
  void setImmediateExit(bool isWanted);

  std::shared_ptr<Vm> vm_;
  FileDescriptor fd_;
  Mapping run_;
  uint64_t token_ = 0;
  uint32_t cpuidCount_ = 0;
  std::atomic<bool> isClaimed_ = false;
  /// How the last run ended when kvm_run does not say: KVM_EXIT_INTR, KVM_EXIT_MEMORY_FAULT, or 0.
  uint32_t endedBy_ = 0;
  bool isKicked_ = false;
  /// The exit that waits for an answer of JavaScript; null where none does.
  const ExitFacts* asked_ = nullptr;

  /// Guards what follows, and that `runner_` is inside run() while it gets a signal.
  std::mutex mutex_;
  std::condition_variable changed_;
  bool isKickWanted_ = false;
  bool isEnding_ = false;
  bool isDoubted_ = false;
  bool isHeld_ = false;
  /// A thread is in KVM_RUN.
  bool isRunning_ = false;
  pthread_t runner_ = {};
};

}  // namespace membacking
