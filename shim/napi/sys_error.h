// Failures as JavaScript errors, with the fields that Node.js gives its own: `code` ('ENOMEM'), `errno`
// (negative, so that util.getSystemErrorName understands it) and `syscall`.
#pragma once

#include <napi.h>

#include "host/failure.h"

namespace membacking {

/// Error for a failure.
Napi::Error systemError(Napi::Env env, const Failure& failure);

/// Failure to exception: throws if `failure` is one.
void check(Napi::Env env, const Failure& failure);

/// Error with a `code`, thrown.
[[noreturn]] void throwCoded(Napi::Env env, const char* code, const std::string& message);

}  // namespace membacking
