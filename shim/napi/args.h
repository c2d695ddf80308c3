// Arguments: checked for type, fraction, sign and overflow before anything is done with them. The errors are
// Node.js's own: TypeError ERR_INVALID_ARG_TYPE and RangeError ERR_OUT_OF_RANGE.
#pragma once

#include <napi.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>

namespace membacking {

[[noreturn]] inline void throwType(Napi::Env env, const char* name, const char* expected) {
  Napi::TypeError error = Napi::TypeError::New(env, std::string(name) + " must be " + expected);
  error.Set("code", Napi::String::New(env, "ERR_INVALID_ARG_TYPE"));
  throw error;
}

[[noreturn]] inline void throwRange(Napi::Env env, const char* name, const char* expected) {
  Napi::RangeError error = Napi::RangeError::New(env, std::string(name) + " must be " + expected);
  error.Set("code", Napi::String::New(env, "ERR_OUT_OF_RANGE"));
  throw error;
}

/// A number as it is; NaN too.
inline double toDouble(const Napi::Value& value, const char* name) {
  double number = 0;
  if (napi_get_value_double(value.Env(), value, &number) != napi_ok) throwType(value.Env(), name, "a number");
  return number;
}

/// A non-negative safe integer or a bigint below 2^64.
inline uint64_t toU64(const Napi::Value& value, const char* name) {
  constexpr double kMaxSafeInteger = 9007199254740991.0;
  if (value.IsBigInt()) {
    bool lossless = false;
    const uint64_t result = value.As<Napi::BigInt>().Uint64Value(&lossless);
    if (!lossless) throwRange(value.Env(), name, "from 0 to 2^64 - 1");
    return result;
  }
  if (!value.IsNumber()) throwType(value.Env(), name, "a number or a bigint");
  const double number = toDouble(value, name);
  // The comparison is false for NaN, so NaN is refused here too.
  if (!(number >= 0 && number <= kMaxSafeInteger) || number != std::floor(number)) {
    throwRange(value.Env(), name, "a whole number from 0 to 2^53 - 1 (use a bigint for more)");
  }
  return static_cast<uint64_t>(number);
}

/// A whole number from 0 to `max`.
inline uint32_t toU32(const Napi::Value& value, const char* name, uint32_t max = UINT32_MAX) {
  const double number = toDouble(value, name);
  // False for NaN too; and what passes fits, so that the conversion means something.
  const bool isInRange = number >= 0 && number <= max;
  const uint32_t whole = isInRange ? static_cast<uint32_t>(number) : 0;
  if (!isInRange || whole != number) {
    throwRange(value.Env(), name, ("a whole number from 0 to " + std::to_string(max)).c_str());
  }
  return whole;
}

inline bool toBool(const Napi::Value& value, const char* name) {
  if (!value.IsBoolean()) throwType(value.Env(), name, "a boolean");
  return value.As<Napi::Boolean>().Value();
}

inline std::string toString(const Napi::Value& value, const char* name) {
  if (!value.IsString()) throwType(value.Env(), name, "a string");
  return value.As<Napi::String>().Utf8Value();
}

/// `kind`, or "kind NAME" when there is a name.
inline std::string toFullName(const char* kind, const Napi::Value& name) {
  return name.IsUndefined() ? kind : kind + (" " + toString(name, "name"));
}

/// A descriptor: whether it is open, the system knows.
inline int toFd(const Napi::Value& value) {
  return static_cast<int>(toU32(value, "fd", std::numeric_limits<int>::max()));
}

/// A typed array of one type, which `expected` names.
template <typename Array>
Array toArray(const Napi::Value& value, napi_typedarray_type type, const char* name, const char* expected) {
  const bool isOfType = value.IsTypedArray() && value.As<Napi::TypedArray>().TypedArrayType() == type;
  if (!isOfType) throwType(value.Env(), name, expected);
  return value.As<Array>();
}

inline Napi::Uint8Array toBytes(const Napi::Value& value, const char* name) {
  return toArray<Napi::Uint8Array>(value, napi_uint8_array, name, "a Uint8Array");
}

inline Napi::Float64Array toNumbers(const Napi::Value& value, const char* name) {
  return toArray<Napi::Float64Array>(value, napi_float64_array, name, "a Float64Array");
}

}  // namespace membacking
