// Parts of files: how the lists are checked.

#include "napi/file_parts.h"

#include <limits>

#include "napi/args.h"
#include "napi/sys_error.h"

namespace membacking {

std::vector<FileDescriptor> toFiles(const Napi::Value& value) {
  if (!value.IsArray()) throwType(value.Env(), "files", "an array");
  const Napi::Array list = value.As<Napi::Array>();
  std::vector<FileDescriptor> files;
  for (uint32_t i = 0; i < list.Length(); i++) {
    files.push_back(FileDescriptor::duplicate(toFd(list.Get(i))));
    if (!files.back().isOpen()) check(value.Env(), failedCall("fcntl"));
  }
  return files;
}

RangeMap<FilePart> toParts(const Napi::Value& value, uint64_t size, size_t files, bool maySource) {
  const auto list = toArray<Napi::BigUint64Array>(value, napi_biguint64_array, "parts", "a BigUint64Array");
  RangeMap<FilePart> parts;
  uint64_t end = 0;
  for (size_t i = 0; i + 3 < list.ElementLength(); i += 4) {
    const uint64_t offset = list[i], length = list[i + 1], file = list[i + 2], fileOffset = list[i + 3];
    const bool isInside = offset >= end && offset < size && length != 0 && length <= size - offset;
    const bool isKnown = file < files || (maySource && file == FilePart::kSource);
    const bool isInFile = isKnown && fileOffset <= std::numeric_limits<int64_t>::max() - length;
    if (!isInside || !isInFile || (offset | length | fileOffset) % kPageSize != 0) {
      throwRange(value.Env(), "parts", "whole pages of the files, upwards, inside of the size");
    }
    end = offset + length;
    parts.set(offset, end, {static_cast<uint32_t>(file), fileOffset});
  }
  return parts;
}

}  // namespace membacking
