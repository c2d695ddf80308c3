// VCPUs: registers, runs, and kicks out of the guest from any thread.
#pragma once

#include <pthread.h>

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "host/fd.h"
#include "host/host_range.h"
#include "kvm/cpuid.h"
#include "kvm/state.h"

struct kvm_run;

namespace membacking {

class Vm;

/// Facts about the exit of a run. JavaScript reads them, and writes `data` to answer a read of the guest: that goes to
/// the guest with the next run.
struct ExitFacts {
  /// KVM_EXIT_*. A kick is KVM_EXIT_INTR; memory that cannot be had is KVM_EXIT_MEMORY_FAULT, however KVM reported it.
  uint32_t reason;
  /// 1 where the guest writes, of port and MMIO exits.
  uint32_t isWrite;
  uint32_t port;
  /// Bytes: of one item at a port, of an MMIO access.
  uint32_t size;
  /// Number of items at a port: more than one for string instructions.
  uint32_t count;
  /// Suberror of an internal error; type of a system event.
  uint32_t detail;
  /// 1 where the run ended because of a kick.
  uint32_t isKicked;
  /// 1 where `gpa` is known: of an MMIO exit always, of a memory fault if KVM told.
  uint32_t isGpaKnown;
  uint64_t gpa;
  /// Reason of a failed entry, of the hardware.
  uint64_t hardwareReason;
  /// Data of the exit: size * count bytes.
  uint8_t data[4096];
};

/// Whether nobody waits for a run any more, so that it has to end. Asked on the run's thread, now and then; an empty
/// function is not asked.
using IsUnwanted = std::function<bool()>;

/// One vCPU. One thread at a time claims it.
class Vcpu {
 public:
  static Failure create(const std::shared_ptr<Vm>& vm, uint32_t id, std::shared_ptr<Vcpu>& result);
  ~Vcpu();

  uint64_t token() const { return token_; }
  int fd() const { return fd_.get(); }

  /// Claims the vCPU for one thread; false if it is in use. KVM would make every call wait for a run to end.
  bool claim() { return !isClaimed_.exchange(true); }
  bool isClaimed() const { return isClaimed_; }
  void unclaim() { isClaimed_ = false; }

  // Below, the caller holds the claim.

  /// Gives the guest the answer in `facts`, if they are those that the question was put in.
  void answer(const ExitFacts& facts);
  /// Runs until an exit. On failure there was none. While the VM is paused, the run waits.
  Failure run(const IsUnwanted& isUnwanted) { return enter(false, isUnwanted); }
  /// Only finishes the instruction that the last exit interrupted; KVM_EXIT_INTR when that is done. Another exit when
  /// the instruction has more to ask or to say. Does not wait for a pause of this thread's own.
  Failure finish(const IsUnwanted& isUnwanted) { return enter(true, isUnwanted); }
  /// Puts the last exit into `facts`.
  void readExit(ExitFacts& facts);

  /// Finds a state, with the size that it has for this vCPU.
  bool findState(const std::string& name, StateKind& kind) const;
  /// Descriptor that the state's requests take.
  int fdOf(StateOwner owner) const;
  Failure readCpuid(CpuidEntries& entries) const { return membacking::readCpuid(fd(), cpuidCount_, entries); }
  /// Gives the vCPU its CPUID entries, before the first run.
  Failure writeCpuid(const CpuidEntries& entries);

  // Any thread may call the rest.

  /// Appends the writes of all vCPUs of the VM that were kept, and keeps them no longer: 24 bytes each, u64 GPA, u32
  /// bytes, u32 0, then 8 of which those are used. ENOTSUP: KVM keeps none.
  Failure takeWrites(std::vector<uint8_t>& records);
  /// Makes the run that is going on, or else the next one, end with KVM_EXIT_INTR. Several before that count as one.
  void kick();
  /// Makes every run end at once with KVM_EXIT_INTR as long as it is wanted, the one that is going on too.
  void setEnding(bool isWanted);
  /// Makes the run that is going on, or else the next one, find out whether it is still waited for.
  void doubt();

  // Pauses, for Vm. A run that is held is out of the guest, and goes on when it is let go: nobody is told.
  void hold();
  void waitUntilHeld();
  void letGo();

 private:
  kvm_run& shared() const;
  Failure enter(bool onlyFinish, const IsUnwanted& isUnwanted);
  int runOnce() const;
  Failure leave(int error, bool onlyFinish);
  bool mustLeave() const;
  void leaveGuest();
  void setImmediateExit(bool isWanted);

  std::shared_ptr<Vm> vm_;
  FileDescriptor fd_;
  HostRange run_;
  uint64_t token_ = 0;
  uint32_t cpuidCount_ = 0;
  std::atomic<bool> isClaimed_ = false;
  /// Exit reason of the last run where kvm_run does not say it: KVM_EXIT_INTR, KVM_EXIT_MEMORY_FAULT; else 0.
  uint32_t endedBy_ = 0;
  bool isKicked_ = false;
  /// Exit that waits for an answer of JavaScript; null where none does.
  const ExitFacts* asked_ = nullptr;

  /// Guards the members below, and that `runner_` is inside run() while it gets a signal.
  std::mutex mutex_;
  std::condition_variable changed_;
  bool isKickWanted_ = false;
  bool isEnding_ = false;
  bool isDoubted_ = false;
  bool isHeld_ = false;
  /// Whether `runner_` is in KVM_RUN.
  bool isRunning_ = false;
  pthread_t runner_ = {};
};

}  // namespace membacking
