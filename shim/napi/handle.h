// Handles: the base of every object that JavaScript gets. A handle holds a share of a core object; close() gives
// the share up, and the garbage collector and the end of the environment do so too. The core object goes when
// the last holder has let go: a handle, an executor's table, a memory slot, a vCPU.
#pragma once

#include <napi.h>

#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "napi/args.h"
#include "napi/sys_error.h"

namespace membacking {

class EventWaiter;

/// State of one environment (main thread or worker).
struct AddonData {
  /// Constructors by the class's type tag.
  std::unordered_map<const napi_type_tag*, Napi::FunctionReference> constructors;
  /// Core object for the constructor that runs now. Empty when JavaScript itself said `new`.
  std::shared_ptr<void> pending;
  /// Made by the first wait for an eventfd.
  std::shared_ptr<EventWaiter> waiter;
};

/// Handle of a `Core`. `Derived` has a `static constexpr napi_type_tag kTag` and a `static constexpr const char*
/// kName`.
template <typename Derived, typename Core>
class Handle : public Napi::ObjectWrap<Derived> {
 public:
  explicit Handle(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Derived>(info) {
    std::shared_ptr<void> pending = std::move(data(info.Env()).pending);
    if (!pending) throwType(info.Env(), Derived::kName, "made by its own static functions, not by new");
    core_ = std::static_pointer_cast<Core>(std::move(pending));
    info.This().template As<Napi::Object>().TypeTag(&Derived::kTag);
  }

  /// Makes a JavaScript object for `core`.
  static Napi::Object wrap(Napi::Env env, std::shared_ptr<Core> core) {
    data(env).pending = std::move(core);
    try {
      return data(env).constructors.at(&Derived::kTag).New({});
    } catch (const Napi::Error&) {
      // The constructor did not take it (no stack is left, say): it must not stay for the next `new`.
      data(env).pending.reset();
      throw;
    }
  }

  /// Core object behind an argument. Throws unless it is an open handle of this class.
  static std::shared_ptr<Core> from(const Napi::Value& value, const char* name) {
    return checked(value, name)->shared(value.Env());
  }

  /// Receiver of a method or accessor, checked to be of the class: Node-API takes any object. (node-addon-api finds
  /// this function by its name.)
  static Derived* Unwrap(const Napi::Value& value) { return checked(value, "this"); }

 protected:
  /// Gives the handle a method of its own that knows the handle: to find it through `this` costs more than all the rest
  /// of a short call. In the constructor.
  template <Napi::Value (Derived::*method)(const Napi::CallbackInfo&)>
  void bind(const Napi::CallbackInfo& info, const char* name) {
    const auto self = info.This().As<Napi::Object>();
    Napi::Function function = Napi::Function::New<callBound<method>>(info.Env(), name, this);
    // Nobody can take it away, so the function keeps the handle as long as itself.
    function.DefineProperty(Napi::PropertyDescriptor::Value("handle", self, napi_default));
    Napi::Object(self).DefineProperty(Napi::PropertyDescriptor::Value(name, function, napi_default));
  }

  static void define(Napi::Env env, Napi::Object exports,
                     const std::vector<typename Napi::ObjectWrap<Derived>::PropertyDescriptor>& members) {
    Napi::Function constructor = Napi::ObjectWrap<Derived>::DefineClass(env, Derived::kName, members);
    data(env).constructors.emplace(&Derived::kTag, Napi::Persistent(constructor));
    exports.Set(Derived::kName, constructor);
  }

  /// Core object of this handle, or its share. Throws ERR_CLOSED.
  const std::shared_ptr<Core>& shared(Napi::Env env) const {
    if (!core_) throwCoded(env, "ERR_CLOSED", std::string("This ") + Derived::kName + " is closed");
    return core_;
  }

  Core& core(const Napi::CallbackInfo& info) const { return *shared(info.Env()); }

  bool isOpen() const { return core_ != nullptr; }
  void release() { core_.reset(); }

 private:
  static Derived* checked(const Napi::Value& value, const char* name) {
    if (!value.IsObject() || !value.As<Napi::Object>().CheckTypeTag(&Derived::kTag)) {
      throwType(value.Env(), name, (std::string("a ") + Derived::kName).c_str());
    }
    // SAFETY: only the constructor above puts this tag on an object, and it wraps a Derived.
    return Napi::ObjectWrap<Derived>::Unwrap(value.As<Napi::Object>());
  }

  template <Napi::Value (Derived::*method)(const Napi::CallbackInfo&)>
  static Napi::Value callBound(const Napi::CallbackInfo& info) {
    // SAFETY: bind() gave the function this pointer, and with it a share of the object that it wraps.
    return (static_cast<Derived*>(info.Data())->*method)(info);
  }

  static AddonData& data(Napi::Env env) { return *env.GetInstanceData<AddonData>(); }

  std::shared_ptr<Core> core_;
};

}  // namespace membacking
