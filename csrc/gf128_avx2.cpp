// PCLMULQDQ: four products of halves for each block.
#include <immintrin.h>

#include "gf128.h"

namespace aero {

void gf128_row_avx2(const std::uint8_t* x, const std::uint8_t* y, std::size_t n, Gf128Row& row) {
  __m128i low = _mm_setzero_si128(), middle = low, high = low, picked = low;
  const __m128i* const xs = reinterpret_cast<const __m128i*>(x);
  const __m128i* const ys = reinterpret_cast<const __m128i*>(y);
  for (std::size_t j = 0; j < n; ++j) {
    const __m128i a = _mm_loadu_si128(xs + j), b = _mm_loadu_si128(ys + j);
    low = _mm_xor_si128(low, _mm_clmulepi64_si128(a, b, 0x00));
    high = _mm_xor_si128(high, _mm_clmulepi64_si128(a, b, 0x11));
    middle = _mm_xor_si128(middle, _mm_xor_si128(_mm_clmulepi64_si128(a, b, 0x01), _mm_clmulepi64_si128(a, b, 0x10)));
    const __m128i bit = _mm_and_si128(_mm_shuffle_epi32(b, 0), _mm_set1_epi32(1));
    picked = _mm_xor_si128(picked, _mm_and_si128(a, _mm_sub_epi32(_mm_setzero_si128(), bit)));
  }
  low = _mm_xor_si128(low, _mm_slli_si128(middle, 8));
  high = _mm_xor_si128(high, _mm_srli_si128(middle, 8));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(row.product), low);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(row.product + 2), high);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(row.picked), picked);
}

}  // namespace aero
