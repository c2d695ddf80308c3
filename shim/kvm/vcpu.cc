// A vCPU: how it is entered and left, and the words of its exits.

#include "kvm/vcpu.h"

#include <linux/kvm.h>
#include <signal.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <utility>

#include "host/fault_guard.h"
#include "host/invariant.h"
#include "host/registry.h"
#include "host/write_hold.h"
#include "kvm/run_watch.h"
#include "kvm/system.h"
#include "kvm/vm.h"

// Newer than some of the system headers this builds with.
#ifndef KVM_EXIT_MEMORY_FAULT
#define KVM_EXIT_MEMORY_FAULT 39
#endif
#ifndef KVM_CAP_XSAVE2
#define KVM_CAP_XSAVE2 208
#endif

namespace membacking {
namespace {

/// The signal that brings a thread out of the guest: the first real-time one that nobody uses.
int kickSignal() {
  static const int signal = [] {
    for (int candidate = SIGRTMIN; candidate <= SIGRTMAX; candidate++) {
      struct sigaction action;
      if (::sigaction(candidate, nullptr, &action) != 0 || action.sa_handler != SIG_DFL) continue;
      // KVM_RUN ends with EINTR in any case. SA_RESTART: one that comes a moment too late interrupts nothing else.
      // SA_ONSTACK: a thread that gave itself a signal stack has little room on its own.
      action = {};
      action.sa_handler = [](int) {};
      action.sa_flags = SA_RESTART | SA_ONSTACK;
      if (::sigaction(candidate, &action, nullptr) == 0) return candidate;
    }
    return 0;
  }();
  return signal;
}

void unblockKickSignal() {
  static thread_local const bool once = [] {
    sigset_t set;
    ::sigemptyset(&set);
    ::sigaddset(&set, kickSignal());
    return ::pthread_sigmask(SIG_UNBLOCK, &set, nullptr) == 0;
  }();
  static_cast<void>(once);
}

// SAFETY: the pages that KVM maps behind the struct hold the data of port exits, one page of it at data_offset.
uint8_t* portData(kvm_run& run) { return reinterpret_cast<uint8_t*>(&run) + run.io.data_offset; }

uint32_t portBytes(const kvm_run& run) {
  return std::min<uint32_t>(run.io.size * run.io.count, sizeof(ExitFacts::data));
}

uint32_t mmioBytes(const kvm_run& run) { return std::min<uint32_t>(run.mmio.len, sizeof run.mmio.data); }

void readPortExit(kvm_run& run, ExitFacts& facts) {
  facts.isWrite = run.io.direction == KVM_EXIT_IO_OUT;
  facts.port = run.io.port;
  facts.size = run.io.size;
  facts.count = run.io.count;
  // SAFETY: KVM put its data area at data_offset, for size * count bytes, clipped to one page as `data` is.
  if (facts.isWrite) {
    std::memcpy(facts.data, portData(run), portBytes(run));
  } else {
    std::memset(facts.data, 0, portBytes(run));
  }
}

void readMmioExit(const kvm_run& run, ExitFacts& facts) {
  facts.isWrite = run.mmio.is_write;
  facts.gpa = run.mmio.phys_addr;
  facts.isGpaKnown = 1;
  facts.size = run.mmio.len;
  facts.count = 1;
  // SAFETY: mmioBytes() is no more than either side has.
  if (facts.isWrite) {
    std::memcpy(facts.data, run.mmio.data, mmioBytes(run));
  } else {
    std::memset(facts.data, 0, mmioBytes(run));
  }
}

}  // namespace

Failure Vcpu::create(const std::shared_ptr<Vm>& vm, uint32_t id, std::shared_ptr<Vcpu>& result) {
  if (kickSignal() == 0) return {EBUSY, "sigaction", "no real-time signal is free"};
  auto vcpu = std::make_shared<Vcpu>();
  vcpu->vm_ = vm;
  vcpu->fd_ = FileDescriptor(kvmIoctl(vm->fd(), KVM_CREATE_VCPU, id));
  if (!vcpu->fd_.isOpen()) return failedCall("KVM_CREATE_VCPU");
  const int size = kvmIoctl(vm->kvm().fd.get(), KVM_GET_VCPU_MMAP_SIZE, 0);
  if (size < 0) return failedCall("KVM_GET_VCPU_MMAP_SIZE");
  if (const Failure failure = HostRange::shareWhole(vcpu->fd(), static_cast<uint64_t>(size), vcpu->run_)) return failure;
  if (const Failure failure = RunWatch::instance().add(*vcpu)) return failure;
  vcpu->token_ = Registry<Vcpu>::instance().add(vcpu);
  result = std::move(vcpu);
  return kDone;
}

Vcpu::~Vcpu() {
  RunWatch::instance().remove(*this);
  Registry<Vcpu>::instance().remove(token_);
}

// SAFETY: KVM keeps a kvm_run at the start of what it maps, and the range lives as long as this object.
kvm_run& Vcpu::shared() const { return *reinterpret_cast<kvm_run*>(run_.base()); }

void Vcpu::answer(const ExitFacts& facts) {
  if (asked_ != &facts) return;
  asked_ = nullptr;
  kvm_run& run = shared();
  if (endedBy_ != 0) return;
  if (run.exit_reason == KVM_EXIT_IO && run.io.direction == KVM_EXIT_IO_IN) {
    // SAFETY: KVM put its data area at data_offset, for size * count bytes, clipped to one page.
    std::memcpy(portData(run), facts.data, portBytes(run));
  } else if (run.exit_reason == KVM_EXIT_MMIO && !run.mmio.is_write) {
    std::memcpy(run.mmio.data, facts.data, mmioBytes(run));
  }
}

Failure Vcpu::enter(bool onlyFinish, const IsUnwanted& isUnwanted) {
  INVARIANT(isClaimed_);
  unblockKickSignal();
  endedBy_ = 0;
  isKicked_ = false;
  int error = 0;
  std::unique_lock lock(mutex_);
  // What an exit has begun is ended outside of the guest: whoever holds that may have it ended.
  const bool isFree = onlyFinish && vm_->isPausedBy(::pthread_self());
  const auto mustWait = [&] { return isHeld_ && !isFree; };
  do {
    if (vm_->isShutDown() && !mustLeave()) return {EBADF, "KVM_RUN", "the VM is closed"};
    if (mustWait() && !vm_->isShutDown() && vm_->isPausedBy(::pthread_self())) {
      return {EBUSY, "KVM_RUN", "this thread has paused the VM"};
    }
    changed_.wait(lock, [&] { return !mustWait() || mustLeave() || isDoubted_; });
    error = EINTR;
    if (std::exchange(isDoubted_, false) && isUnwanted && isUnwanted()) break;
    if (mustWait()) continue;
    isRunning_ = true;
    runner_ = ::pthread_self();
    setImmediateExit(onlyFinish || mustLeave());
    lock.unlock();
    const uint64_t endedHolds = WriteHold::ended();
    error = runOnce();
    if (error == EFAULT && WriteHold::hasEndedSince(endedHolds)) error = EAGAIN;
    lock.lock();
    isRunning_ = false;
    if (isHeld_) changed_.notify_all();
    // EAGAIN: another vCPU has just started this one, or the guest wrote while writes were held.
  } while (error == EAGAIN || (error == EINTR && (mustWait() || isDoubted_) && !mustLeave()));
  return leave(error, onlyFinish);
}

/// Enters the guest once. Returns 0 or the errno.
int Vcpu::runOnce() const {
  const BusErrorCatcher catcher;
  const int error = ::ioctl(fd(), KVM_RUN, 0) < 0 ? errno : 0;
  // KVM leaves it to a signal to say so.
  return error == EINTR && catcher.hasCaught() ? EHWPOISON : error;
}

/// Notes how a run has ended. With the mutex.
Failure Vcpu::leave(int error, bool onlyFinish) {
  if (error == EINTR) {
    endedBy_ = KVM_EXIT_INTR;
    if (!onlyFinish) {
      isKicked_ = mustLeave();
      isKickWanted_ = false;
    }
  } else if (error == EFAULT || error == EHWPOISON) {
    endedBy_ = KVM_EXIT_MEMORY_FAULT;
  }
  return error == 0 || endedBy_ != 0 ? kDone : Failure{error, "KVM_RUN", nullptr};
}

namespace {

/// kvm_coalesced_mmio_ring, whose records some system headers put elsewhere when C++ reads them.
struct WriteRing {
  static constexpr uint32_t kRecords = (kPageSize - 8) / sizeof(kvm_coalesced_mmio);
  uint32_t first;
  uint32_t last;
  kvm_coalesced_mmio records[kRecords];
};
static_assert(offsetof(WriteRing, records) == 8 && sizeof(kvm_coalesced_mmio) == 24);

}  // namespace

Failure Vcpu::takeWrites(std::vector<uint8_t>& records) {
  constexpr uint32_t kMost = WriteRing::kRecords;
  int page = 0;
  if (const Failure failure = checkKvmExtension(vm_->fd(), KVM_CAP_COALESCED_MMIO, page)) return failure;
  const uint64_t offset = static_cast<uint64_t>(page) * kPageSize;
  if (page == 0 || !run_.contains(offset, kPageSize)) return {ENOTSUP, "KVM_CHECK_EXTENSION", "KVM keeps no writes"};
  std::lock_guard lock(vm_->keptWrites());
  // SAFETY: KVM keeps its ring in that page of what it maps (above), which lives as long as this object.
  auto& ring = *reinterpret_cast<WriteRing*>(run_.base() + offset);
  const uint32_t end = __atomic_load_n(&ring.last, __ATOMIC_ACQUIRE) % kMost;
  uint32_t next = ring.first % kMost;
  for (; next != end; next = (next + 1) % kMost) {
    // SAFETY: records before `end` are in the page, and KVM does not touch them before `first` has passed them.
    const auto* record = reinterpret_cast<const uint8_t*>(&ring.records[next]);
    records.insert(records.end(), record, record + sizeof(kvm_coalesced_mmio));
  }
  __atomic_store_n(&ring.first, next, __ATOMIC_RELEASE);
  return kDone;
}

void Vcpu::kick() {
  std::lock_guard lock(mutex_);
  isKickWanted_ = true;
  leaveGuest();
  changed_.notify_all();
}

void Vcpu::setEnding(bool isWanted) {
  std::lock_guard lock(mutex_);
  isEnding_ = isWanted;
  if (isWanted) leaveGuest();
  changed_.notify_all();
}

void Vcpu::doubt() {
  std::lock_guard lock(mutex_);
  isDoubted_ = true;
  leaveGuest();
  changed_.notify_all();
}

/// Whether the run has to end now. With the mutex.
bool Vcpu::mustLeave() const { return isKickWanted_ || isEnding_; }

void Vcpu::hold() {
  std::lock_guard lock(mutex_);
  isHeld_ = true;
  leaveGuest();
}

void Vcpu::waitUntilHeld() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return !isRunning_; });
}

void Vcpu::letGo() {
  std::lock_guard lock(mutex_);
  isHeld_ = false;
  changed_.notify_all();
}

/// Brings the thread that is in KVM_RUN out of it. With the mutex.
void Vcpu::leaveGuest() {
  if (!isRunning_) return;
  // A thread that has not reached the guest yet sees the flag; one that is there is brought out by the signal.
  setImmediateExit(true);
  ::pthread_kill(runner_, kickSignal());
}

/// Sets the flag that KVM reads when a run begins. With the mutex.
void Vcpu::setImmediateExit(bool isWanted) {
  __atomic_store_n(&shared().immediate_exit, static_cast<uint8_t>(isWanted), __ATOMIC_SEQ_CST);
}

void Vcpu::readExit(ExitFacts& facts) {
  kvm_run& run = shared();
  asked_ = &facts;
  facts.reason = endedBy_ != 0 ? endedBy_ : run.exit_reason;
  facts.isKicked = isKicked_;
  switch (facts.reason) {
    case KVM_EXIT_IO:
      readPortExit(run, facts);
      break;
    case KVM_EXIT_MMIO:
      readMmioExit(run, facts);
      break;
    case KVM_EXIT_MEMORY_FAULT: {
      // SAFETY: flags, gpa, size are in the union's first 24 bytes: linux/kvm.h calls them memory_fault since 6.8.
      uint64_t fault[3];
      std::memcpy(fault, &run.hw, sizeof fault);
      facts.isGpaKnown = run.exit_reason == KVM_EXIT_MEMORY_FAULT;
      facts.gpa = facts.isGpaKnown ? fault[1] : 0;
      break;
    }
    case KVM_EXIT_INTERNAL_ERROR:
      facts.detail = run.internal.suberror;
      break;
    case KVM_EXIT_FAIL_ENTRY:
      facts.hardwareReason = run.fail_entry.hardware_entry_failure_reason;
      break;
    case KVM_EXIT_SYSTEM_EVENT:
      facts.detail = run.system_event.type;
      break;
  }
}

int Vcpu::fdOf(StateOwner owner) const { return owner == StateOwner::kVcpu ? fd() : vm_->fdOf(owner); }

bool Vcpu::findState(const std::string& name, StateKind& kind) const {
  const StateKind* found = membacking::findState(name);
  if (found == nullptr) return false;
  kind = *found;
  int size = 0;
  if (!checkKvmExtension(vm_->fd(), KVM_CAP_XSAVE2, size)) enlarge(kind, static_cast<size_t>(size));
  return true;
}

Failure Vcpu::writeCpuid(const CpuidEntries& entries) {
  if (const Failure failure = membacking::writeCpuid(fd(), entries)) return failure;
  cpuidCount_ = countOf(entries);
  return kDone;
}

}  // namespace membacking
