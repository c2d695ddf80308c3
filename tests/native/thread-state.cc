// State of a thread before and after a function: what a signal handler may leave changed in the thread that it
// interrupts. An addon, as JavaScript sees none of it. Never shipped.

#include <napi.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>

#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

namespace {

std::string hex(uint64_t value) {
  char text[20];
  std::snprintf(text, sizeof text, "%" PRIx64, value);
  return text;
}

/// Rights of protection keys; without keys the instruction does not exist.
std::string rightsOfKeys(bool hasKeys) {
  if (!hasKeys) return "none";
  uint32_t low = 0;
  uint32_t high = 0;
  asm volatile("rdpkru" : "=a"(low), "=d"(high) : "c"(0));
  return hex(low);
}

/// Gives its thread a state that nobody has by chance, as long as it lives.
class UnusualState {
 public:
  UnusualState() : stack_(64 * 1024), key_(::pkey_alloc(0, 0)) {
    sigset_t blocked;
    ::sigemptyset(&blocked);
    ::sigaddset(&blocked, SIGUSR2);
    ::pthread_sigmask(SIG_BLOCK, &blocked, &mask_);
    stack_t stack = {};
    stack.ss_sp = stack_.data();
    stack.ss_size = stack_.size();
    ::sigaltstack(&stack, &alternate_);
    if (hasKeys()) ::pkey_set(key_, PKEY_DISABLE_WRITE);
    asm volatile("fnstcw %0\n stmxcsr %1" : "=m"(x87_), "=m"(sse_));
    // 53 bits of precision, and denormal numbers as zeroes: JavaScript does not mind.
    load(static_cast<uint16_t>((x87_ & ~0x300u) | 0x200u), sse_ | 0x8040u);
  }

  ~UnusualState() {
    load(x87_, sse_);
    if (hasKeys()) ::pkey_free(key_);
    ::sigaltstack(&alternate_, nullptr);
    ::pthread_sigmask(SIG_SETMASK, &mask_, nullptr);
  }

  Napi::Object read(Napi::Env env) const {
    sigset_t mask;
    ::pthread_sigmask(SIG_SETMASK, nullptr, &mask);
    uint64_t signals = 0;
    std::memcpy(&signals, &mask, sizeof signals);
    stack_t stack;
    ::sigaltstack(nullptr, &stack);
    uint16_t x87 = 0;
    uint32_t sse = 0;
    asm volatile("fnstcw %0\n stmxcsr %1" : "=m"(x87), "=m"(sse));
    Napi::Object state = Napi::Object::New(env);
    state.Set("keyRights", rightsOfKeys(hasKeys()));
    state.Set("signalMask", hex(signals));
    state.Set("alternateStack", hex(reinterpret_cast<uint64_t>(stack.ss_sp)) + " " + hex(stack.ss_flags));
    state.Set("x87Control", hex(x87));
    // Without what computations leave in it.
    state.Set("sseControl", hex(sse & ~0x3fu));
    return state;
  }

 private:
  bool hasKeys() const { return key_ >= 0; }

  static void load(uint16_t x87, uint32_t sse) { asm volatile("fldcw %0\n ldmxcsr %1" : : "m"(x87), "m"(sse)); }

  std::vector<uint8_t> stack_;
  int key_;
  sigset_t mask_ = {};
  stack_t alternate_ = {};
  uint16_t x87_ = 0;
  uint32_t sse_ = 0;
};

/// around(function): calls it in an unusual state, and gives that before and after.
Napi::Value around(const Napi::CallbackInfo& info) {
  const UnusualState unusual;
  Napi::Array states = Napi::Array::New(info.Env());
  states[0u] = unusual.read(info.Env());
  info[0].As<Napi::Function>().Call({});
  states[1u] = unusual.read(info.Env());
  return states;
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  exports.Set("around", Napi::Function::New<around>(env, "around"));
  return exports;
}

NODE_API_MODULE(threadState, init)

}  // namespace
