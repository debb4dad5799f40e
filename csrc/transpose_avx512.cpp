// Eight bytes (64 columns) of all 128 rows at a time: sixteen registers of eight rows each. Within a register a byte
// permutation brings the eight bytes of a column group together and GFNI transposes them as 8 x 8 bits; across the
// registers four rounds of byte unpacking gather one output block in each quarter.
#include <immintrin.h>

#include "transpose.h"

namespace aero {
namespace {

constexpr std::size_t kGroups = 16;  // of eight rows

// Transposes 8 x 8 bytes within the register.
inline __m512i transpose_bytes(__m512i rows) {
  alignas(64) static constexpr std::uint8_t index[64] = {
      0, 8,  16, 24, 32, 40, 48, 56, 1, 9,  17, 25, 33, 41, 49, 57, 2, 10, 18, 26, 34, 42, 50, 58, 3, 11, 19, 27, 35, 43, 51, 59,
      4, 12, 20, 28, 36, 44, 52, 60, 5, 13, 21, 29, 37, 45, 53, 61, 6, 14, 22, 30, 38, 46, 54, 62, 7, 15, 23, 31, 39, 47, 55, 63};
  return _mm512_permutexvar_epi8(_mm512_load_si512(index), rows);
}

// In every 64-bit word, bit j of byte i becomes bit i of byte j. The instruction computes A x with row i of A in byte
// 7 - i; with x the unit vectors it yields the columns of A, and reversing the bytes first puts row i at bit i.
inline __m512i transpose_bits(__m512i words) {
  const __m512i reverse = _mm512_broadcast_i32x4(_mm_setr_epi8(7, 6, 5, 4, 3, 2, 1, 0, 15, 14, 13, 12, 11, 10, 9, 8));
  const __m512i units = _mm512_set1_epi64(static_cast<long long>(0x8040201008040201));
  return _mm512_gf2p8affine_epi64_epi8(units, _mm512_shuffle_epi8(words, reverse), 0);
}

}  // namespace

void transpose_tile_avx512(const std::uint8_t* tile, std::uint8_t* out) {
  constexpr long long stride = kTileBytes;
  const __m512i offsets =
      _mm512_setr_epi64(0, stride, 2 * stride, 3 * stride, 4 * stride, 5 * stride, 6 * stride, 7 * stride);
  for (std::size_t byte = 0; byte < kTileBytes; byte += 8) {
    __m512i g[kGroups], h[kGroups];
    for (std::size_t i = 0; i < kGroups; ++i) {
      const __m512i rows = _mm512_i64gather_epi64(offsets, tile + 8 * i * kTileBytes + byte, 1);
      g[i] = transpose_bits(transpose_bytes(rows));
    }
    // Unpacking register i with register i + 8 interleaves their bytes: after four rounds a quarter holds the sixteen
    // bytes, in the order of the groups, of one column.
    for (int round = 0; round < 2; ++round) {
      for (std::size_t i = 0; i < kGroups / 2; ++i) {
        h[2 * i] = _mm512_unpacklo_epi8(g[i], g[i + 8]);
        h[2 * i + 1] = _mm512_unpackhi_epi8(g[i], g[i + 8]);
      }
      for (std::size_t i = 0; i < kGroups / 2; ++i) {
        g[2 * i] = _mm512_unpacklo_epi8(h[i], h[i + 8]);
        g[2 * i + 1] = _mm512_unpackhi_epi8(h[i], h[i + 8]);
      }
    }
    // Quarter l of register k is block 16 l + k.
    for (std::size_t k = 0; k < kGroups; k += 4) {
      const __m512i a = _mm512_shuffle_i64x2(g[k], g[k + 1], 0x44), b = _mm512_shuffle_i64x2(g[k], g[k + 1], 0xee);
      const __m512i c = _mm512_shuffle_i64x2(g[k + 2], g[k + 3], 0x44), d = _mm512_shuffle_i64x2(g[k + 2], g[k + 3], 0xee);
      std::uint8_t* to = out + kRows * byte + 16 * k;
      _mm512_storeu_si512(to, _mm512_shuffle_i64x2(a, c, 0x88));
      _mm512_storeu_si512(to + 256, _mm512_shuffle_i64x2(a, c, 0xdd));
      _mm512_storeu_si512(to + 512, _mm512_shuffle_i64x2(b, d, 0x88));
      _mm512_storeu_si512(to + 768, _mm512_shuffle_i64x2(b, d, 0xdd));
    }
  }
}

}  // namespace aero
