// Failures as JavaScript errors, with the fields that Node.js gives its own: `code` ('ENOMEM'), `errno`
// (negative, so that util.getSystemErrorName understands it) and `syscall`.
#pragma once

#include <napi.h>

#include "host/failure.h"

namespace membacking {

Napi::Error systemError(Napi::Env env, const Failure& failure);

/// Throws when `failure` is one.
void check(Napi::Env env, const Failure& failure);

/// Throws an Error whose `code` is `code`.
[[noreturn]] void throwCoded(Napi::Env env, const char* code, const std::string& message);

}  // namespace membacking
