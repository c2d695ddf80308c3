// A monitor's own device in C++, which has membacking.h and no more: it uses guest memory from a thread of its own.
// Never shipped.

#include <dlfcn.h>
#include <napi.h>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "host/membacking.h"

namespace {

uint64_t toU64(const Napi::Value& value) {
  bool isExact = false;
  return value.IsBigInt() ? value.As<Napi::BigInt>().Uint64Value(&isExact)
                          : static_cast<uint64_t>(value.As<Napi::Number>().Int64Value());
}

/// [error, GPA, value].
Napi::Value toArray(Napi::Env env, membacking_result result, uint64_t value = 0) {
  Napi::Array array = Napi::Array::New(env);
  array[0u] = Napi::Number::New(env, result.error);
  array[1u] = Napi::Number::New(env, static_cast<double>(result.gpa));
  array[2u] = Napi::Number::New(env, static_cast<double>(value));
  return array;
}

std::vector<membacking_range> toRanges(const Napi::Value& value) {
  const auto list = value.As<Napi::Array>();
  std::vector<membacking_range> ranges;
  for (uint32_t i = 0; i != list.Length(); i += 2) ranges.push_back({toU64(list.Get(i)), toU64(list.Get(i + 1))});
  return ranges;
}

class Device : public Napi::ObjectWrap<Device> {
 public:
  /// Device(address of the table, token of a VA space)
  explicit Device(const Napi::CallbackInfo& info)
      : ObjectWrap(info), guest_(reinterpret_cast<const membacking_interface*>(toU64(info[0]))) {
    if (guest_->version != MEMBACKING_VERSION || guest_->size < sizeof *guest_) {
      throw Napi::Error::New(info.Env(), "another version of membacking.h");
    }
    memory_ = guest_->open(toU64(info[1]));
    if (memory_ == nullptr) throw Napi::Error::New(info.Env(), "no VA space has this token");
  }

  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "Device",
                       {
                           InstanceMethod<&Device::read>("read"),
                           InstanceMethod<&Device::write>("write"),
                           InstanceMethod<&Device::load>("load"),
                           InstanceMethod<&Device::store>("store"),
                           InstanceMethod<&Device::compareExchange>("compareExchange"),
                           InstanceMethod<&Device::lock>("lock"),
                           InstanceMethod<&Device::unlock>("unlock"),
                           InstanceMethod<&Device::translate>("translate"),
                           InstanceMethod<&Device::start>("start"),
                           InstanceMethod<&Device::stop>("stop"),
                           InstanceMethod<&Device::close>("close"),
                       });
  }

 private:
  /// read([gpa, length, …], into)
  Napi::Value read(const Napi::CallbackInfo& info) {
    const auto ranges = toRanges(info[0]);
    void* into = info[1].As<Napi::Uint8Array>().Data();
    return toArray(info.Env(), ranges.size() == 1 ? guest_->read(memory_, ranges[0].gpa, into, ranges[0].length)
                                                  : guest_->read_ranges(memory_, ranges.data(), ranges.size(), into));
  }

  Napi::Value write(const Napi::CallbackInfo& info) {
    const auto ranges = toRanges(info[0]);
    const void* from = info[1].As<Napi::Uint8Array>().Data();
    return toArray(info.Env(), ranges.size() == 1 ? guest_->write(memory_, ranges[0].gpa, from, ranges[0].length)
                                                  : guest_->write_ranges(memory_, ranges.data(), ranges.size(), from));
  }

  Napi::Value load(const Napi::CallbackInfo& info) {
    uint64_t value = 0;
    const auto width = static_cast<unsigned>(toU64(info[1]));
    const membacking_result result = guest_->load(memory_, toU64(info[0]), width, &value);
    return toArray(info.Env(), result, value);
  }

  Napi::Value store(const Napi::CallbackInfo& info) {
    const auto width = static_cast<unsigned>(toU64(info[1]));
    return toArray(info.Env(), guest_->store(memory_, toU64(info[0]), width, toU64(info[2])));
  }

  Napi::Value compareExchange(const Napi::CallbackInfo& info) {
    uint64_t expected = toU64(info[2]);
    const auto width = static_cast<unsigned>(toU64(info[1]));
    const auto result = guest_->compare_exchange(memory_, toU64(info[0]), width, &expected, toU64(info[3]));
    return toArray(info.Env(), result, expected);
  }

  /// lock([gpa, length, …], isWrite, holder)
  Napi::Value lock(const Napi::CallbackInfo& info) {
    const auto ranges = toRanges(info[0]);
    const std::string holder = info[2].As<Napi::String>();
    return toArray(info.Env(), guest_->lock(memory_, ranges.data(), ranges.size(), info[1].As<Napi::Boolean>(),
                                            holder.c_str(), &lock_));
  }

  void unlock(const Napi::CallbackInfo&) { guest_->unlock(lock_); }

  /// The word at a GPA that is locked, through its address; undefined where that is none.
  Napi::Value translate(const Napi::CallbackInfo& info) {
    const void* at = guest_->translate(lock_, toU64(info[0]), sizeof(uint32_t));
    if (at == nullptr) return info.Env().Undefined();
    uint32_t word = 0;
    std::memcpy(&word, at, sizeof word);
    return Napi::Number::New(info.Env(), word);
  }

  /// start([gpa, length, …]): copies the ranges, scattered, one after the other, in and out, on a thread of its own;
  /// and locks each, reads a byte of it by its address, and unlocks it.
  void start(const Napi::CallbackInfo& info) {
    isStopping_ = false;
    thread_ = std::thread([this, ranges = toRanges(info[0])] {
      size_t size = 0;
      for (const membacking_range& range : ranges) size += range.length;
      std::vector<uint8_t> buffer(size);
      while (!isStopping_) {
        count(guest_->read_ranges(memory_, ranges.data(), ranges.size(), buffer.data()));
        for (const membacking_range& range : ranges) {
          if (count(guest_->read(memory_, range.gpa, buffer.data(), range.length))) {
            count(guest_->write(memory_, range.gpa, buffer.data(), range.length));
          }
          membacking_lock* lock = nullptr;
          if (!count(guest_->lock(memory_, &range, 1, 0, "device", &lock))) continue;
          touched_ += *static_cast<volatile uint8_t*>(guest_->translate(lock, range.gpa, range.length));
          guest_->unlock(lock);
        }
      }
    });
  }

  /// Numbers of results, by the negative of their error.
  Napi::Value stop(const Napi::CallbackInfo& info) {
    isStopping_ = true;
    thread_.join();
    Napi::Array counts = Napi::Array::New(info.Env());
    for (uint32_t i = 0; i != 7; i++) counts[i] = Napi::Number::New(info.Env(), counts_[i]);
    return counts;
  }

  void close(const Napi::CallbackInfo&) { guest_->close(memory_); }

  bool count(membacking_result result) {
    counts_[-result.error]++;
    return result.error == MEMBACKING_OK;
  }

  const membacking_interface* guest_;
  membacking_memory* memory_ = nullptr;
  membacking_lock* lock_ = nullptr;
  std::atomic<bool> isStopping_ = false;
  uint32_t counts_[7] = {};
  uint64_t touched_ = 0;
  std::thread thread_;
};

/// symbolOf(file): address of the table, found by its symbol in an addon that is loaded.
Napi::Value symbolOf(const Napi::CallbackInfo& info) {
  void* addon = ::dlopen(std::string(info[0].As<Napi::String>()).c_str(), RTLD_NOLOAD | RTLD_LAZY);
  const auto find = reinterpret_cast<const membacking_interface* (*)()>(::dlsym(addon, "membacking_interface_1"));
  return Napi::BigInt::New(info.Env(), reinterpret_cast<uint64_t>(find()));
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  exports.Set("Device", Device::define(env));
  exports.Set("symbolOf", Napi::Function::New<symbolOf>(env, "symbolOf"));
  return exports;
}

NODE_API_MODULE(nativeDevice, init)

}  // namespace
