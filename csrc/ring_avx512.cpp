// A product modulo 2^64 from 52-bit multiply-adds, in three instructions and two accumulators.
//
// Write a = a_low + 2^52 a_top with a 12-bit a_top, and a_12 for its lowest 12 bits; likewise b. Modulo 2^64,
//     a b = a_low b_low + 2^52 (a_12 b_top + a_top b_12).
// The instructions use the low 52 bits of their operands and add the low or the high 52 bits of the 104-bit product.
// Two of them give a_low b_low. With the companions a' = 2^12 a_12 + 2^40 a_top and b' alike,
//     a' b' = 2^24 a_12 b_12 + 2^52 (a_12 b_top + a_top b_12) + 2^80 a_top b_top,
// whose high half is the wanted middle term plus a multiple of 2^28: its first term is below 2^48, and only 12 bits of
// what is added at 2^52 count. So the high half of a' b' goes into the accumulator of the high halves.
#include <immintrin.h>

#include "ring_blocks.h"

namespace aero {
namespace {

struct Tile {
  static constexpr int rows = 6, cols = 16;

  static std::uint64_t companion(std::uint64_t word) { return ((word & 0xfff) << 12) | ((word >> 52) << 40); }

  template <int Rows>
  static void multiply(const std::uint64_t* a, const std::uint64_t* b, std::size_t depth, std::uint64_t* sums) {
    __m512i low[Rows][2], high[Rows][2];
    for (int r = 0; r < Rows; ++r)
      for (int c = 0; c < 2; ++c) low[r][c] = high[r][c] = _mm512_setzero_si512();
    for (std::size_t d = 0; d < depth; ++d, a += 2 * Rows, b += 2 * cols) {
      const __m512i words[2] = {_mm512_load_si512(b), _mm512_load_si512(b + 8)};
      const __m512i companions[2] = {_mm512_load_si512(b + 16), _mm512_load_si512(b + 24)};
      for (int r = 0; r < Rows; ++r) {
        const __m512i word = _mm512_set1_epi64(static_cast<long long>(a[r]));
        const __m512i companion = _mm512_set1_epi64(static_cast<long long>(a[Rows + r]));
        for (int c = 0; c < 2; ++c) {
          low[r][c] = _mm512_madd52lo_epu64(low[r][c], word, words[c]);
          high[r][c] = _mm512_madd52hi_epu64(high[r][c], word, words[c]);
          high[r][c] = _mm512_madd52hi_epu64(high[r][c], companion, companions[c]);
        }
      }
    }
    for (int r = 0; r < Rows; ++r)
      for (int c = 0; c < 2; ++c)
        _mm512_store_si512(sums + 16 * r + 8 * c, _mm512_add_epi64(low[r][c], _mm512_slli_epi64(high[r][c], 52)));
  }
};

}  // namespace

void ring_multiply_add_avx512(const std::uint64_t* a, const std::uint64_t* b, std::uint64_t* out, std::size_t m,
                              std::size_t k, std::size_t n, std::uint64_t* scratch) {
  blocked_multiply_add<Tile>(a, b, out, m, k, n, scratch);
}

}  // namespace aero
