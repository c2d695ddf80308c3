// CRC-32 as zlib, PNG and Ethernet have it.
#pragma once

#include <cstdint>

namespace membacking {

/// CRC-32 of `length` bytes, whole pages, that stand behind others, which have the CRC-32 `before`; of none it is 0.
uint32_t crc32(uint32_t before, const uint8_t* bytes, uint64_t length);

}  // namespace membacking
