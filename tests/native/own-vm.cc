// A monitor's own addon: a virtual machine and a vCPU that it has made itself, with memory of its own in slot 0, run on
// a thread of its own. It knows nothing of membacking, but that descriptors are handed to it. Never shipped.

#include <fcntl.h>
#include <linux/kvm.h>
#include <napi.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <thread>

namespace {

class OwnVm : public Napi::ObjectWrap<OwnVm> {
 public:
  explicit OwnVm(const Napi::CallbackInfo& info)
      : ObjectWrap(info), size_(static_cast<size_t>(info[0].As<Napi::Number>().Int64Value())) {
    struct sigaction action = {};
    action.sa_handler = [](int) {};
    ::sigaction(SIGUSR1, &action, nullptr);
    kvm_ = ::open("/dev/kvm", O_RDWR | O_CLOEXEC);
    vm_ = ::ioctl(kvm_, KVM_CREATE_VM, 0);
    memory_ = static_cast<uint8_t*>(
        ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    kvm_userspace_memory_region region = {};
    region.memory_size = size_;
    region.userspace_addr = reinterpret_cast<uint64_t>(memory_);
    vcpu_ = ::ioctl(vm_, KVM_CREATE_VCPU, 0);
    runSize_ = static_cast<size_t>(::ioctl(kvm_, KVM_GET_VCPU_MMAP_SIZE, 0));
    run_ = static_cast<kvm_run*>(::mmap(nullptr, runSize_, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu_, 0));
    if (run_ == MAP_FAILED || ::ioctl(vm_, KVM_SET_USER_MEMORY_REGION, &region) != 0) {
      throw Napi::Error::New(info.Env(), std::strerror(errno));
    }
  }

  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "OwnVm",
                       {
                           InstanceAccessor<&OwnVm::kvmFd>("kvmFd"),
                           InstanceAccessor<&OwnVm::vmFd>("vmFd"),
                           InstanceAccessor<&OwnVm::vcpuFd>("vcpuFd"),
                           InstanceMethod<&OwnVm::writeMemory>("writeMemory"),
                           InstanceMethod<&OwnVm::control>("control"),
                           InstanceMethod<&OwnVm::run>("run"),
                           InstanceMethod<&OwnVm::start>("start"),
                           InstanceMethod<&OwnVm::stop>("stop"),
                           InstanceMethod<&OwnVm::close>("close"),
                       });
  }

 private:
  Napi::Value kvmFd(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), kvm_); }
  Napi::Value vmFd(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), vm_); }
  Napi::Value vcpuFd(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), vcpu_); }

  void writeMemory(const Napi::CallbackInfo& info) {
    const auto bytes = info[1].As<Napi::Uint8Array>();
    std::memcpy(memory_ + info[0].As<Napi::Number>().Int64Value(), bytes.Data(), bytes.ByteLength());
  }

  /// control(request, bytes): an ioctl of the vCPU with a struct.
  Napi::Value control(const Napi::CallbackInfo& info) {
    const auto request = static_cast<unsigned long>(info[0].As<Napi::Number>().Int64Value());
    const int result = ::ioctl(vcpu_, request, info[1].As<Napi::Uint8Array>().Data());
    if (result < 0) throw Napi::Error::New(info.Env(), std::strerror(errno));
    return Napi::Number::New(info.Env(), result);
  }

  /// Runs until an exit that is none of a signal's: [reason, port or GPA, the value that is written].
  Napi::Value run(const Napi::CallbackInfo& info) {
    run_->immediate_exit = 0;
    enter();
    Napi::Array exit = Napi::Array::New(info.Env(), 3);
    uint32_t value = 0;
    exit[0u] = run_->exit_reason;
    if (run_->exit_reason == KVM_EXIT_IO) {
      std::memcpy(&value, reinterpret_cast<uint8_t*>(run_) + run_->io.data_offset, sizeof value);
      exit[1u] = run_->io.port;
    } else if (run_->exit_reason == KVM_EXIT_MMIO) {
      std::memcpy(&value, run_->mmio.data, sizeof value);
      exit[1u] = static_cast<double>(run_->mmio.phys_addr);
    }
    exit[2u] = value;
    // Finishes the instruction, so that registers may be set.
    run_->immediate_exit = 1;
    ::ioctl(vcpu_, KVM_RUN, 0);
    return exit;
  }

  /// Runs on a thread of its own until stop().
  void start(const Napi::CallbackInfo&) {
    if (thread_.joinable()) return;
    run_->immediate_exit = 0;
    exits_ = 0;
    isStopping_ = false;
    thread_ = std::thread([this] {
      while (!isStopping_) {
        enter();
        if (!isStopping_) exits_++;
      }
    });
  }

  /// The number of exits that the guest has had meanwhile.
  Napi::Value stop(const Napi::CallbackInfo& info) {
    if (thread_.joinable()) {
      isStopping_ = true;
      run_->immediate_exit = 1;
      ::pthread_kill(thread_.native_handle(), SIGUSR1);
      thread_.join();
    }
    return Napi::Number::New(info.Env(), exits_);
  }

  void close(const Napi::CallbackInfo& info) {
    stop(info);
    ::munmap(run_, runSize_);
    for (const int fd : {vcpu_, vm_, kvm_}) ::close(fd);
    ::munmap(memory_, size_);
  }

  void enter() {
    while (::ioctl(vcpu_, KVM_RUN, 0) != 0 && errno == EINTR && !isStopping_) {
    }
  }

  size_t size_;
  size_t runSize_;
  int kvm_;
  int vm_;
  int vcpu_;
  uint8_t* memory_;
  kvm_run* run_;
  std::atomic<bool> isStopping_ = false;
  uint32_t exits_ = 0;
  std::thread thread_;
};

/// mapMemory(fd, size, offset): memory of the monitor's own, of a file shared or, for -1, private; its address.
Napi::Value mapMemory(const Napi::CallbackInfo& info) {
  const int fd = info[0].As<Napi::Number>().Int32Value();
  const auto size = static_cast<size_t>(info[1].As<Napi::Number>().Int64Value());
  const auto offset = static_cast<off_t>(info[2].As<Napi::Number>().Int64Value());
  const int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
  void* memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, flags, fd, offset);
  if (memory == MAP_FAILED) throw Napi::Error::New(info.Env(), std::strerror(errno));
  return Napi::BigInt::New(info.Env(), reinterpret_cast<uint64_t>(memory));
}

uint64_t addressOf(const Napi::Value& value) {
  bool isExact = false;
  return value.As<Napi::BigInt>().Uint64Value(&isExact);
}

void unmapMemory(const Napi::CallbackInfo& info) {
  ::munmap(reinterpret_cast<void*>(addressOf(info[0])), static_cast<size_t>(info[1].As<Napi::Number>().Int64Value()));
}

/// peek(address): a byte of the monitor's own memory.
Napi::Value peek(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), *reinterpret_cast<uint8_t*>(addressOf(info[0])));
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  exports.Set("mapMemory", Napi::Function::New<mapMemory>(env, "mapMemory"));
  exports.Set("unmapMemory", Napi::Function::New<unmapMemory>(env, "unmapMemory"));
  exports.Set("peek", Napi::Function::New<peek>(env, "peek"));
  exports.Set("OwnVm", OwnVm::define(env));
  return exports;
}

NODE_API_MODULE(ownVm, init)

}  // namespace
