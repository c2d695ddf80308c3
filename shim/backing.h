// Mappable objects: what a VA command puts at a GPA.
#pragma once

#include <napi.h>

#include <memory>
#include <string>

#include "fd.h"
#include "handle.h"
#include "mapping.h"

namespace membacking {

struct Backing {
  /// Shared: pages of `fd`, at any number of places. Private: pages that exist once, in `home` or at a GPA; `home` is
  /// a reservation of its own, where they have no access.
  bool isShared = false;
  bool isWritable = true;
  uint64_t size = 0;
  /// Bytes: mappings of it begin, end and point to multiples of this.
  uint64_t granularity = kPageSize;
  FileDescriptor fd;
  Mapping home;

  /// Anonymous memory that other processes can be told of; sealed, so that it never shrinks under a mapping.
  /// `hugePageSize` in bytes, or 0; huge pages are reserved now, so that no mapping of them fails later.
  static Failure memfd(const std::string& name, uint64_t size, uint64_t hugePageSize, std::shared_ptr<Backing>&);
  /// A duplicate of the caller's descriptor. EACCES, ENODEV, ENXIO: its access mode, kind or size will not do.
  static Failure fromFd(int fd, uint64_t size, bool isWritable, std::shared_ptr<Backing>&);
  static Failure privateMemory(uint64_t size, std::shared_ptr<Backing>&);
  /// A copy-on-write image of the file from its start.
  static Failure privateFile(int fd, uint64_t size, std::shared_ptr<Backing>&);
};

/// Backing in JavaScript.
class BackingHandle : public Handle<BackingHandle, Backing> {
 public:
  static constexpr napi_type_tag kTag{0x6d656d6261636b69, 0x6261636b696e6721};
  static constexpr const char* kName = "Backing";

  using Handle::Handle;
  static void define(Napi::Env env, Napi::Object exports);

 private:
  static Napi::Value memfd(const Napi::CallbackInfo& info);
  static Napi::Value fromFd(const Napi::CallbackInfo& info);
  static Napi::Value privateMemory(const Napi::CallbackInfo& info);
  static Napi::Value privateFile(const Napi::CallbackInfo& info);

  Napi::Value kind(const Napi::CallbackInfo& info);
  Napi::Value size(const Napi::CallbackInfo& info);
  Napi::Value writable(const Napi::CallbackInfo& info);
  Napi::Value granularity(const Napi::CallbackInfo& info);
  Napi::Value fd(const Napi::CallbackInfo& info);
  Napi::Value allocatedBytes(const Napi::CallbackInfo& info);
  void close(const Napi::CallbackInfo& info);
};

}  // namespace membacking
