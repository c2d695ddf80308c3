// Names of errnos, and failures as JavaScript errors.

#include "napi/sys_error.h"

#include <cstring>
#include <string>

namespace membacking {
namespace {

/// Symbolic name of an errno. (glibc has strerrorname_np only since 2.32.)
std::string errorName(int error) {
  switch (error) {
#define NAME(code) \
  case code:       \
    return #code;
    NAME(E2BIG) NAME(EACCES) NAME(EADDRINUSE) NAME(EAGAIN) NAME(EBADF) NAME(EBUSY) NAME(ECONNREFUSED)
    NAME(ECONNRESET) NAME(EEXIST) NAME(EFAULT) NAME(EFBIG) NAME(EHWPOISON) NAME(EINTR) NAME(EINVAL) NAME(EIO)
    NAME(EMFILE) NAME(ENAMETOOLONG) NAME(ENFILE) NAME(ENODATA) NAME(ENODEV) NAME(ENOENT) NAME(ENOEXEC)
    NAME(ENOMEM) NAME(ENOSPC) NAME(ENOSYS) NAME(ENOTTY) NAME(ENXIO) NAME(EOPNOTSUPP) NAME(EOVERFLOW) NAME(EPERM)
    NAME(EPIPE) NAME(EPROTO) NAME(EPROTONOSUPPORT) NAME(EPROTOTYPE) NAME(ERANGE) NAME(EROFS) NAME(ESRCH)
    NAME(ETIMEDOUT) NAME(ETXTBSY)
#undef NAME
    default:
      return "E" + std::to_string(error);
  }
}

}  // namespace

Napi::Error systemError(Napi::Env env, const Failure& failure) {
  const std::string code = errorName(failure.error);
  const std::string why = failure.reason ? failure.reason : std::strerror(failure.error);
  Napi::Error error = Napi::Error::New(env, code + ": " + why + ", " + failure.syscall);
  error.Set("errno", Napi::Number::New(env, -failure.error));
  error.Set("code", Napi::String::New(env, code));
  error.Set("syscall", Napi::String::New(env, failure.syscall));
  return error;
}

void check(Napi::Env env, const Failure& failure) {
  if (failure) throw systemError(env, failure);
}

void throwCoded(Napi::Env env, const char* code, const std::string& message) {
  Napi::Error error = Napi::Error::New(env, message);
  error.Set("code", Napi::String::New(env, code));
  throw error;
}

}  // namespace membacking
