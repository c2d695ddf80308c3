// Locks as JavaScript asks for them, of this process or of a client's.
#pragma once

#include <napi.h>

#include <algorithm>
#include <string>

#include "abi.h"
#include "host/locks.h"
#include "napi/args.h"
#include "sinks/command.h"

namespace membacking {

/// Number of an address, or of something else that is at most 2^53 here.
inline Napi::Number exactly(Napi::Env env, uint64_t value) {
  return Napi::Number::New(env, static_cast<double>(value));
}

/// Range of the first two arguments. One that ends past 2^64 ends there.
inline Locks::Range toRange(const Napi::CallbackInfo& info) {
  const uint64_t start = toU64(info[0], "gpa");
  return {start, start + std::min(toU64(info[1], "length"), UINT64_MAX - start)};
}

/// Use that the ACCESS_* of the third argument leave.
inline Use toUse(const Napi::CallbackInfo& info) { return useOf(toU32(info[2], "left", abi::ACCESS_ALL)); }

/// Keeps new locks from a range. The number of the bar.
template <typename SomeLocks>
Napi::Value barRange(const Napi::CallbackInfo& info, SomeLocks& locks) {
  return exactly(info.Env(), locks.bar(toRange(info), toUse(info)));
}

/// Locks that need more than is left of a range. `where` is put behind the names of holders.
template <typename SomeLocks>
Napi::Value lockedInRange(const Napi::CallbackInfo& info, const SomeLocks& locks, const std::string& where) {
  Napi::Array list = Napi::Array::New(info.Env());
  for (const Locks::Broken& broken : locks.brokenBy(toRange(info), toUse(info))) {
    Napi::Object lock = Napi::Object::New(info.Env());
    lock.Set("id", exactly(info.Env(), broken.id));
    lock.Set("holder", broken.holder + where);
    lock.Set("access", exactly(info.Env(), broken.isWrite ? abi::ACCESS_READ | abi::ACCESS_WRITE : abi::ACCESS_READ));
    lock.Set("gpa", exactly(info.Env(), broken.range.start));
    lock.Set("length", exactly(info.Env(), broken.range.end - broken.range.start));
    list[list.Length()] = lock;
  }
  return list;
}

}  // namespace membacking
