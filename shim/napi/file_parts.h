// Parts of files as JavaScript gives them: what memory is made of, or compared with.
#pragma once

#include <napi.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "host/fd.h"
#include "host/pager.h"
#include "host/range_map.h"

namespace membacking {

/// Descriptors in a list, each duplicated.
std::vector<FileDescriptor> toFiles(const Napi::Value& value);

/// Parts of files in a list of offset, length, number of the file and offset in it, one after the other: whole pages,
/// upwards, inside of `size`. `maySource`: whether some may be the source's.
RangeMap<FilePart> toParts(const Napi::Value& value, uint64_t size, size_t files, bool maySource);

}  // namespace membacking
