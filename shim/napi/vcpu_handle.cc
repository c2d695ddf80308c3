// VCPUs as JavaScript calls them: one thread at a time, on its own thread or in the background.

#include "napi/vcpu_handle.h"

#include <cstddef>
#include <string>
#include <utility>

#include "host/registry.h"
#include "napi/async_runner.h"
#include "napi/exchange.h"
#include "napi/state_calls.h"

namespace membacking {

/// Whether the JavaScript thread is about to end: then it may call no JavaScript.
static bool isEnding(napi_env env) {
  const Napi::HandleScope scope(env);
  napi_value value = Napi::Env(env).Undefined();
  return napi_coerce_to_bool(env, value, &value) != napi_ok;
}

/// Holds the vCPU for one call. Throws if another thread, or a run in the background, has it.
class VcpuHandle::Claim {
 public:
  Claim(Napi::Env env, Vcpu& vcpu) : vcpu_(vcpu) {
    if (vcpu.claim()) return;
    throwCoded(env, "ERR_VCPU_RUNNING", "This Vcpu is running; kick() it and wait for the run to end");
  }
  ~Claim() { vcpu_.unclaim(); }
  Claim(const Claim&) = delete;

 private:
  Vcpu& vcpu_;
};

VcpuHandle::VcpuHandle(const Napi::CallbackInfo& info) : Handle(info) {
  exchange_ = Napi::Persistent(exchangeBuffer(info.Env(), facts_));
  bind<&VcpuHandle::run>(info, "run");
  bind<&VcpuHandle::finish>(info, "finish");
}

VcpuHandle::~VcpuHandle() = default;

void VcpuHandle::define(Napi::Env env, Napi::Object exports) {
  Handle::define(env, exports,
                 {
                     StaticMethod<&VcpuHandle::fromToken>("fromToken"),
                     InstanceAccessor<&VcpuHandle::token>("token"),
                     InstanceAccessor<&VcpuHandle::fd>("fd"),
                     InstanceAccessor<&VcpuHandle::exchange>("exchange"),
                     InstanceMethod<&VcpuHandle::runAsync>("runAsync"),
                     InstanceMethod<&VcpuHandle::kick>("kick"),
                     InstanceMethod<&VcpuHandle::takeWrites>("takeWrites"),
                     InstanceMethod<&VcpuHandle::stateSize>("stateSize"),
                     InstanceMethod<&VcpuHandle::passState<false>>("readState"),
                     InstanceMethod<&VcpuHandle::passState<true>>("writeState"),
                     InstanceMethod<&VcpuHandle::readCpuid>("readCpuid"),
                     InstanceMethod<&VcpuHandle::writeCpuid>("writeCpuid"),
                     InstanceMethod<&VcpuHandle::close>("close"),
                 });
}

Napi::Value VcpuHandle::fromToken(const Napi::CallbackInfo& info) {
  auto vcpu = Registry<Vcpu>::instance().find(toU64(info[0], "token"));
  if (!vcpu) throwCoded(info.Env(), "ERR_CLOSED", "no vCPU that is open in this process has this token");
  return wrap(info.Env(), std::move(vcpu));
}

Napi::Value VcpuHandle::token(const Napi::CallbackInfo& info) {
  return Napi::BigInt::New(info.Env(), core(info).token());
}

Napi::Value VcpuHandle::fd(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), core(info).fd()); }

Napi::Value VcpuHandle::exchange(const Napi::CallbackInfo&) { return exchange_.Value(); }

Napi::Value VcpuHandle::enter(const Napi::CallbackInfo& info, Failure (Vcpu::*method)(const IsUnwanted&)) {
  Vcpu& vcpu = core(info);
  Claim claim(info.Env(), vcpu);
  vcpu.answer(*facts_);
  check(info.Env(), (vcpu.*method)([env = info.Env()] { return isEnding(env); }));
  vcpu.readExit(*facts_);
  return Napi::Number::New(info.Env(), facts_->reason);
}

Napi::Value VcpuHandle::run(const Napi::CallbackInfo& info) { return enter(info, &Vcpu::run); }

Napi::Value VcpuHandle::finish(const Napi::CallbackInfo& info) { return enter(info, &Vcpu::finish); }

Napi::Value VcpuHandle::runAsync(const Napi::CallbackInfo& info) {
  const std::shared_ptr<Vcpu>& vcpu = shared(info.Env());
  if (!runner_) runner_ = std::make_unique<AsyncRunner>(info.Env(), vcpu, facts_);
  if (!vcpu->claim()) throwCoded(info.Env(), "ERR_VCPU_RUNNING", "This Vcpu is running already");
  vcpu->answer(*facts_);
  return runner_->start(info.Env(), info.This().As<Napi::Object>());
}

void VcpuHandle::kick(const Napi::CallbackInfo& info) { core(info).kick(); }

Napi::Value VcpuHandle::takeWrites(const Napi::CallbackInfo& info) {
  std::vector<uint8_t> records;
  check(info.Env(), core(info).takeWrites(records));
  return copied(info.Env(), records);
}

/// State of a vCPU that the first argument names.
static StateKind toKind(const Napi::CallbackInfo& info, const Vcpu& vcpu) {
  StateKind kind = {};
  if (!vcpu.findState(toString(info[0], "name"), kind)) throwNoState(info.Env());
  return kind;
}

Napi::Value VcpuHandle::stateSize(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(toKind(info, core(info)).size));
}

template <bool isWrite>
Napi::Value VcpuHandle::passState(const Napi::CallbackInfo& info) {
  Vcpu& vcpu = core(info);
  Claim claim(info.Env(), vcpu);
  const StateKind kind = toKind(info, vcpu);
  return membacking::passState<isWrite>(info, kind, vcpu.fdOf(kind.owner));
}

Napi::Value VcpuHandle::readCpuid(const Napi::CallbackInfo& info) {
  Vcpu& vcpu = core(info);
  Claim claim(info.Env(), vcpu);
  CpuidEntries entries;
  check(info.Env(), vcpu.readCpuid(entries));
  return copied(info.Env(), entries);
}

void VcpuHandle::writeCpuid(const Napi::CallbackInfo& info) {
  Vcpu& vcpu = core(info);
  Claim claim(info.Env(), vcpu);
  const Napi::Uint8Array bytes = toBytes(info[0], "entries");
  check(info.Env(), vcpu.writeCpuid({bytes.Data(), bytes.Data() + bytes.ByteLength()}));
}

void VcpuHandle::close(const Napi::CallbackInfo& info) {
  if (runner_) runner_->close(info.Env());
  runner_.reset();
  release();
}

Napi::Object exitLayout(Napi::Env env) {
  Napi::Object layout = Napi::Object::New(env);
#define FACT(name) layout.Set(#name, Napi::Number::New(env, offsetof(ExitFacts, name)))
  FACT(reason), FACT(isWrite), FACT(port), FACT(size), FACT(count), FACT(detail), FACT(isKicked), FACT(isGpaKnown);
  FACT(gpa), FACT(hardwareReason), FACT(data);
#undef FACT
  return layout;
}

}  // namespace membacking
