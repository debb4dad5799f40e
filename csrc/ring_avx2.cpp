// A product modulo 2^64 from 32-bit halves: a b = a_low b_low + 2^32 (a_low b_high + a_high b_low). The companion of a
// word is its high half.
#include <immintrin.h>

#include "ring_blocks.h"

namespace aero {
namespace {

struct Tile {
  static constexpr int rows = 2, cols = 8;

  static std::uint64_t companion(std::uint64_t word) { return word >> 32; }

  template <int Rows>
  static void multiply(const std::uint64_t* a, const std::uint64_t* b, std::size_t depth, std::uint64_t* sums) {
    __m256i low[Rows][2], high[Rows][2];
    for (int r = 0; r < Rows; ++r)
      for (int c = 0; c < 2; ++c) low[r][c] = high[r][c] = _mm256_setzero_si256();
    for (std::size_t d = 0; d < depth; ++d, a += 2 * Rows, b += 2 * cols)
      for (int c = 0; c < 2; ++c) {
        const __m256i b_low = _mm256_load_si256(reinterpret_cast<const __m256i*>(b + 4 * c));
        const __m256i b_high = _mm256_load_si256(reinterpret_cast<const __m256i*>(b + 8 + 4 * c));
        for (int r = 0; r < Rows; ++r) {
          const __m256i a_low = _mm256_set1_epi64x(static_cast<long long>(a[r]));
          const __m256i a_high = _mm256_set1_epi64x(static_cast<long long>(a[Rows + r]));
          low[r][c] = _mm256_add_epi64(low[r][c], _mm256_mul_epu32(a_low, b_low));
          high[r][c] = _mm256_add_epi64(high[r][c], _mm256_mul_epu32(a_low, b_high));
          high[r][c] = _mm256_add_epi64(high[r][c], _mm256_mul_epu32(a_high, b_low));
        }
      }
    for (int r = 0; r < Rows; ++r)
      for (int c = 0; c < 2; ++c)
        _mm256_store_si256(reinterpret_cast<__m256i*>(sums + 8 * r + 4 * c),
                           _mm256_add_epi64(low[r][c], _mm256_slli_epi64(high[r][c], 32)));
  }
};

}  // namespace

void ring_multiply_add_avx2(const std::uint64_t* a, const std::uint64_t* b, std::uint64_t* out, std::size_t m,
                            std::size_t k, std::size_t n, std::uint64_t* scratch) {
  blocked_multiply_add<Tile>(a, b, out, m, k, n, scratch);
}

}  // namespace aero
