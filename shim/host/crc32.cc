// CRC-32: 256 or 64 bytes at a time where the processor multiplies without carries, else byte by byte.
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

constexpr uint32_t kPolynomial = 0xedb88320;

constexpr Tables makeTables() {
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

/// Remainder of a power of x, as the halves of blocks are multiplied by it.
constexpr int64_t powerOfX(int exponent) {
  uint32_t rest = 0x80000000;
  for (int i = 0; i < exponent; i++) rest = (rest & 1) != 0 ? rest >> 1 ^ kPolynomial : rest >> 1;
  return int64_t{rest} << 1;
}

/// Remainders of the powers that move the halves of a block over a number of bytes.
template <int bytes>
constexpr int64_t kMoves[2] = {powerOfX(8 * bytes + 32), powerOfX(8 * bytes - 32)};

/// Sixteen bytes of the message, moved behind the 64 that begin with them, and added to those there: each half times
/// the remainder of its power of x.
__attribute__((target("pclmul"))) inline __m128i folded(__m128i block, const uint8_t* behind) {
  const __m128i powers = _mm_set_epi64x(kMoves<64>[1], kMoves<64>[0]);
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

/// 64 bytes of the message, moved behind the 256 that begin with them, and added to those there, as folded() does.
__attribute__((target("avx512f,vpclmulqdq"))) inline __m512i widelyFolded(__m512i block, const uint8_t* behind) {
  constexpr int64_t kLow = kMoves<256>[0];
  constexpr int64_t kHigh = kMoves<256>[1];
  const __m512i powers = _mm512_set_epi64(kHigh, kLow, kHigh, kLow, kHigh, kLow, kHigh, kLow);
  const __m512i low = _mm512_clmulepi64_epi128(block, powers, 0x00);
  const __m512i high = _mm512_clmulepi64_epi128(block, powers, 0x11);
  // SAFETY: the caller has 64 bytes there.
  return _mm512_ternarylogic_epi64(low, high, _mm512_loadu_si512(behind), 0x96);
}

/// Register behind `length` bytes, a multiple of 256 and at least that. Precondition: the processor has AVX-512F and
/// VPCLMULQDQ.
__attribute__((target("avx512f,vpclmulqdq"))) uint32_t byWideFolding(uint32_t rest, const uint8_t* bytes,
                                                                    uint64_t length) {
  constexpr uint64_t kStep = 256;
  alignas(64) uint8_t folds[kStep];
  __m512i block[4];
  // SAFETY: the caller has 256 bytes there at least.
  for (int i = 0; i < 4; i++) block[i] = _mm512_loadu_si512(bytes + 64 * i);
  block[0] = _mm512_xor_si512(block[0], _mm512_zextsi128_si512(_mm_cvtsi32_si128(static_cast<int>(rest))));
  for (uint64_t at = kStep; at != length; at += kStep) {
    for (int i = 0; i < 4; i++) block[i] = widelyFolded(block[i], bytes + at + 64 * i);
  }
  for (int i = 0; i < 4; i++) _mm512_store_si512(folds + 64 * i, block[i]);
  return byFolding(0, folds, kStep);
}

#endif

}  // namespace

uint32_t crc32(uint32_t before, const uint8_t* bytes, uint64_t length) {
#ifdef __x86_64__
  static const bool isWide = __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("vpclmulqdq") != 0;
  static const bool canFold = __builtin_cpu_supports("pclmul") != 0;
  if (isWide && length != 0) return ~byWideFolding(~before, bytes, length);
  if (canFold && length != 0) return ~byFolding(~before, bytes, length);
#endif
  return ~byTables(~before, bytes, length);
}

}  // namespace membacking
