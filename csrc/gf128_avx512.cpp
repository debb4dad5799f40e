// VPCLMULQDQ: four blocks at once.
#include <immintrin.h>

#include "gf128.h"

namespace aero {
namespace {

inline __m128i sum_of_four(__m512i x) {
  return _mm_xor_si128(_mm_xor_si128(_mm512_castsi512_si128(x), _mm512_extracti32x4_epi32(x, 1)),
                       _mm_xor_si128(_mm512_extracti32x4_epi32(x, 2), _mm512_extracti32x4_epi32(x, 3)));
}

}  // namespace

void gf128_row_avx512(const std::uint8_t* x, const std::uint8_t* y, std::size_t n, Gf128Row& row) {
  __m512i low = _mm512_setzero_si512(), middle = low, high = low, picked = low;
  const __m512i ones = _mm512_set1_epi32(1);
  for (std::size_t j = 0; j < n; j += 4) {
    const __mmask8 wanted = n - j >= 4 ? 0xff : static_cast<__mmask8>((1u << (2 * (n - j))) - 1);
    const __m512i a = _mm512_maskz_loadu_epi64(wanted, x + 16 * j), b = _mm512_maskz_loadu_epi64(wanted, y + 16 * j);
    low = _mm512_xor_si512(low, _mm512_clmulepi64_epi128(a, b, 0x00));
    high = _mm512_xor_si512(high, _mm512_clmulepi64_epi128(a, b, 0x11));
    middle = _mm512_ternarylogic_epi64(middle, _mm512_clmulepi64_epi128(a, b, 0x01),
                                       _mm512_clmulepi64_epi128(a, b, 0x10), 0x96);
    const __mmask16 odd = _mm512_test_epi32_mask(_mm512_shuffle_epi32(b, _MM_PERM_AAAA), ones);
    picked = _mm512_xor_si512(picked, _mm512_maskz_mov_epi32(odd, a));
  }
  const __m128i middle_sum = sum_of_four(middle);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(row.product), _mm_xor_si128(sum_of_four(low), _mm_slli_si128(middle_sum, 8)));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(row.product + 2),
                   _mm_xor_si128(sum_of_four(high), _mm_srli_si128(middle_sum, 8)));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(row.picked), sum_of_four(picked));
}

}  // namespace aero
