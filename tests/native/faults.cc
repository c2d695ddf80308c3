// A system that fails when it is told to: loaded before everything else (LD_PRELOAD), it stands between the addon and
// the C library. Only calls of the addon fail, V8's own do not. As a Node-API module it takes orders, and does what a
// peer would.

#include <dlfcn.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <node_api.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>
#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace {

constexpr int64_t kNever = -1;
/** Calls that still succeed; from then on all fail, or one does. */
int64_t left = kNever;
bool isOnce = false;
/** Error that they fail with. */
int error = ENOMEM;

template <typename Function>
Function* next(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

bool isAddon(void* caller) {
  Dl_info facts;
  if (dladdr(caller, &facts) == 0) return false;
  return std::strstr(facts.dli_fname, "membacking.node") || std::strstr(facts.dli_fname, "/prebuilds/");
}

bool fails(void* caller) {
  if (left == kNever || !isAddon(caller)) return false;
  if (left != 0) return --left, false;
  if (isOnce) left = kNever;
  errno = error;
  return true;
}

/** Whether an ioctl asks for notes of writes (UFFD_FEATURE_WP_ASYNC), which Linux has since 6.7. */
bool asksForNotes(unsigned long request, const void* argument) {
  constexpr uint64_t kNotes = 1 << 15;
  return request == UFFDIO_API && (static_cast<const uffdio_api*>(argument)->features & kNotes) != 0;
}

int64_t argumentOf(napi_env env, napi_callback_info info, size_t index) {
  size_t count = 2;
  napi_value values[2];
  int64_t value = 0;
  napi_get_cb_info(env, info, &count, values, nullptr, nullptr);
  napi_get_value_int64(env, values[index], &value);
  return value;
}

napi_value failAfter(napi_env env, napi_callback_info info) {
  left = argumentOf(env, info, 0);
  const auto wanted = static_cast<int>(argumentOf(env, info, 1));
  error = wanted != 0 ? wanted : ENOMEM;
  return nullptr;
}

napi_value failOnceAfter(napi_env env, napi_callback_info info) {
  isOnce = true;
  return failAfter(env, info);
}

napi_value heal(napi_env, napi_callback_info) {
  left = kNever;
  isOnce = false;
  return nullptr;
}

napi_value memfd(napi_env env, napi_callback_info info) {
  const int fd = memfd_create("peer", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  napi_value result = nullptr;
  if (ftruncate(fd, argumentOf(env, info, 0)) == 0) napi_create_int32(env, fd, &result);
  return result;
}

napi_value sealFutureWrites(napi_env env, napi_callback_info info) {
  constexpr int kFutureWrite = 0x10;
  napi_value result = nullptr;
  napi_create_int32(env, fcntl(static_cast<int>(argumentOf(env, info, 0)), F_ADD_SEALS, kFutureWrite), &result);
  return result;
}

napi_value punch(napi_env env, napi_callback_info info) {
  const auto fd = static_cast<int>(argumentOf(env, info, 0));
  napi_value result = nullptr;
  const int code = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, argumentOf(env, info, 1));
  napi_create_int32(env, code, &result);
  return result;
}

/** Pages that fill the process's table of mappings: every other one may be read, so that each is a mapping. */
constexpr size_t kPage = 4096;
constexpr size_t kPages = 1 << 18;
char* filling = nullptr;

napi_value emptyMappings(napi_env, napi_callback_info) {
  if (filling != nullptr) munmap(filling, kPages * kPage);
  filling = nullptr;
  return nullptr;
}

/** Makes mappings until the process may have no more, and then gives up as many as are to be left. */
napi_value fillMappings(napi_env env, napi_callback_info info) {
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  filling = static_cast<char*>(mmap(nullptr, kPages * kPage, PROT_NONE, flags, -1, 0));
  size_t page = 1;
  while (page < kPages && mprotect(filling + page * kPage, kPage, PROT_READ) == 0) page += 2;
  for (int64_t more = argumentOf(env, info, 0); more > 0; more -= 2) {
    page -= 2;
    mprotect(filling + page * kPage, kPage, PROT_NONE);
  }
  return nullptr;
}

}  // namespace

#pragma GCC visibility push(default)

extern "C" {

void* mmap(void* address, size_t length, int protection, int flags, int fd, off_t offset) {
  static auto* real = next<void*(void*, size_t, int, int, int, off_t)>("mmap");
  if (fails(__builtin_return_address(0))) return MAP_FAILED;
  return real(address, length, protection, flags, fd, offset);
}

int mprotect(void* address, size_t length, int protection) {
  static auto* real = next<int(void*, size_t, int)>("mprotect");
  return fails(__builtin_return_address(0)) ? -1 : real(address, length, protection);
}

void* mremap(void* address, size_t length, size_t newLength, int flags, ...) {
  static auto* real = next<void*(void*, size_t, size_t, int, ...)>("mremap");
  if (fails(__builtin_return_address(0))) return MAP_FAILED;
  va_list rest;
  va_start(rest, flags);
  void* target = va_arg(rest, void*);
  va_end(rest);
  return real(address, length, newLength, flags, target);
}

/** Kernel calls; none notes writes where there is an environment variable LINUX_6_6. */
int ioctl(int fd, unsigned long request, ...) {
  static auto* real = next<int(int, unsigned long, void*)>("ioctl");
  if (fails(__builtin_return_address(0))) return -1;
  va_list rest;
  va_start(rest, request);
  void* argument = va_arg(rest, void*);
  va_end(rest);
  if (std::getenv("LINUX_6_6") != nullptr && asksForNotes(request, argument)) {
    errno = EINVAL;
    return -1;
  }
  return real(fd, request, argument);
}

/** Pages are as large as the environment variable PAGE_BYTES says. */
long sysconf(int name) {
  static auto* real = next<long(int)>("sysconf");
  const char* bytes = name == _SC_PAGESIZE && isAddon(__builtin_return_address(0)) ? std::getenv("PAGE_BYTES") : nullptr;
  return bytes == nullptr ? real(name) : std::atol(bytes);
}

int munlock(const void* address, size_t length) {
  static auto* real = next<int(const void*, size_t)>("munlock");
  return fails(__builtin_return_address(0)) ? -1 : real(address, length);
}

NAPI_MODULE_INIT() {
  const napi_property_descriptor properties[] = {
      {"failAfter", nullptr, failAfter, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"failOnceAfter", nullptr, failOnceAfter, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"heal", nullptr, heal, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"fillMappings", nullptr, fillMappings, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"emptyMappings", nullptr, emptyMappings, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"memfd", nullptr, memfd, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"punch", nullptr, punch, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"sealFutureWrites", nullptr, sealFutureWrites, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
  };
  napi_define_properties(env, exports, sizeof properties / sizeof *properties, properties);
  return exports;
}

}
