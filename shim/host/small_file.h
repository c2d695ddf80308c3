// Small files: those of sysfs, read whole.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <string>

#include "host/fd.h"

namespace membacking {

/// First 4 KiB of a file; empty where it cannot be read.
inline std::string readSmallFile(const std::string& path) {
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  char text[4096];
  const ssize_t length = ::read(file.get(), text, sizeof text);
  return length > 0 ? std::string(text, static_cast<size_t>(length)) : std::string();
}

}  // namespace membacking
