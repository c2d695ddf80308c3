// CRC-32: 64 bytes at a time where the processor multiplies without carries, else byte by byte.
//
// Bits are reflected: bit 0 of a byte is the highest power of its polynomial. The register is inverted at both ends.

#include "host/crc32.h"

#include <array>

#ifdef __x86_64__
#include <immintrin.h>
#endif

namespace membacking {
namespace {

/// Remainders of each byte, moved behind 0 to 7 others that are 0.
using Tables = std::array<std::array<uint32_t, 256>, 8>;

constexpr Tables makeTables() {
  constexpr uint32_t kPolynomial = 0xedb88320;
  Tables tables{};
  for (uint32_t byte = 0; byte < 256; byte++) {
    uint32_t rest = byte;
    for (int bit = 0; bit < 8; bit++) rest = (rest & 1) != 0 ? rest >> 1 ^ kPolynomial : rest >> 1;
    tables[0][byte] = rest;
  }
  for (uint32_t behind = 1; behind < tables.size(); behind++) {
    for (uint32_t byte = 0; byte < 256; byte++) {
      const uint32_t rest = tables[behind - 1][byte];
      tables[behind][byte] = rest >> 8 ^ tables[0][rest & 0xff];
    }
  }
  return tables;
}

constexpr Tables kTables = makeTables();

/// Register behind `length` bytes, a multiple of 8.
uint32_t byTables(uint32_t rest, const uint8_t* bytes, uint64_t length) {
  for (const uint8_t* const end = bytes + length; bytes != end; bytes += 8) {
    uint32_t next = 0;
    for (int at = 0; at < 8; at++) {
      const auto here = at < 4 ? static_cast<uint8_t>(rest >> 8 * at) : uint8_t{0};
      next ^= kTables[7 - at][bytes[at] ^ here];
    }
    rest = next;
  }
  return rest;
}

#ifdef __x86_64__

/// Sixteen bytes of the message, moved behind the 64 that begin with them, and added to those there: each half times
/// the remainder of its power of x.
__attribute__((target("pclmul"))) inline __m128i folded(__m128i block, const uint8_t* behind) {
  const __m128i powers = _mm_set_epi64x(0x1c6e41596, 0x154442bd4);
  const __m128i low = _mm_clmulepi64_si128(block, powers, 0x00);
  const __m128i high = _mm_clmulepi64_si128(block, powers, 0x11);
  // SAFETY: the caller has 16 bytes there.
  const __m128i there = _mm_loadu_si128(reinterpret_cast<const __m128i*>(behind));
  return _mm_xor_si128(_mm_xor_si128(low, high), there);
}

/// Register behind `length` bytes, a multiple of 64 and at least that. Precondition: the processor has PCLMULQDQ.
__attribute__((target("pclmul"))) uint32_t byFolding(uint32_t rest, const uint8_t* bytes, uint64_t length) {
  constexpr uint64_t kStep = 64;
  alignas(16) uint8_t folds[kStep];
  // SAFETY: the caller has 64 bytes there at least, and so has `folds`.
  const auto* message = reinterpret_cast<const __m128i*>(bytes);
  __m128i block[] = {_mm_loadu_si128(message), _mm_loadu_si128(message + 1), _mm_loadu_si128(message + 2),
                     _mm_loadu_si128(message + 3)};
  block[0] = _mm_xor_si128(block[0], _mm_cvtsi32_si128(static_cast<int>(rest)));
  for (uint64_t at = kStep; at != length; at += kStep) {
    for (int i = 0; i < 4; i++) block[i] = folded(block[i], bytes + at + 16 * i);
  }
  // SAFETY: as above.
  for (int i = 0; i < 4; i++) _mm_store_si128(reinterpret_cast<__m128i*>(folds + 16 * i), block[i]);
  return byTables(0, folds, kStep);
}

#endif

}  // namespace

uint32_t crc32(uint32_t before, const uint8_t* bytes, uint64_t length) {
#ifdef __x86_64__
  static const bool canFold = __builtin_cpu_supports("pclmul") != 0;
  if (canFold && length != 0) return ~byFolding(~before, bytes, length);
#endif
  return ~byTables(~before, bytes, length);
}

}  // namespace membacking
