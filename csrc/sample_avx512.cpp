// Rejection by compressing a register's accepted candidates to its front.
#include <immintrin.h>

#include "sample_steps.h"

namespace aero {
namespace {

Accepted accept_below_avx512(const std::uint64_t* words, std::size_t count, std::uint64_t mask, std::uint64_t q,
                             std::uint64_t* out, std::size_t wanted) {
  const __m512i masks = _mm512_set1_epi64(static_cast<long long>(mask));
  const __m512i bound = _mm512_set1_epi64(static_cast<long long>(q));
  Accepted used{0, 0};
  while (used.candidates + 8 <= count && used.results + 8 <= wanted) {
    const __m512i candidates = _mm512_and_si512(_mm512_loadu_si512(words + used.candidates), masks);
    const __mmask8 accepted = _mm512_cmplt_epu64_mask(candidates, bound);
    _mm512_storeu_si512(out + used.results, _mm512_maskz_compress_epi64(accepted, candidates));
    used.results += static_cast<std::size_t>(__builtin_popcount(accepted));
    used.candidates += 8;
  }
  const Accepted rest = accept_below(words + used.candidates, count - used.candidates, mask, q, out + used.results,
                                     wanted - used.results);
  return {used.results + rest.results, used.candidates + rest.candidates};
}

Accepted accept_ternary_avx512(const std::uint8_t* bytes, std::size_t count, std::int8_t* out, std::size_t wanted) {
  // 16 = 4 = 1 modulo 3, so digits in base 16, then in base 4, may be added; the sum of at most 10 is looked up.
  const __m512i nibble = _mm512_set1_epi8(15), pair = _mm512_set1_epi8(3);
  const __m512i centred = _mm512_broadcast_i32x4(_mm_setr_epi8(-1, 0, 1, -1, 0, 1, -1, 0, 1, -1, 0, 1, -1, 0, 1, -1));
  const __m512i rejected = _mm512_set1_epi8(-1);
  Accepted used{0, 0};
  while (used.candidates + 64 <= count && used.results + 64 <= wanted) {
    const __m512i candidates = _mm512_loadu_si512(bytes + used.candidates);
    const __mmask64 accepted = _mm512_cmpneq_epi8_mask(candidates, rejected);
    const __m512i high = _mm512_and_si512(_mm512_srli_epi16(candidates, 4), nibble);
    const __m512i sum = _mm512_add_epi8(high, _mm512_and_si512(candidates, nibble));  // at most 30
    const __m512i quarter = _mm512_and_si512(_mm512_srli_epi16(sum, 2), nibble);
    const __m512i digits = _mm512_add_epi8(quarter, _mm512_and_si512(sum, pair));
    const __m512i results = _mm512_shuffle_epi8(centred, digits);
    _mm512_storeu_si512(out + used.results, _mm512_maskz_compress_epi8(accepted, results));
    used.results += static_cast<std::size_t>(__builtin_popcountll(accepted));
    used.candidates += 64;
  }
  const Accepted rest =
      accept_ternary(bytes + used.candidates, count - used.candidates, out + used.results, wanted - used.results);
  return {used.results + rest.results, used.candidates + rest.candidates};
}

void binomial_avx512(const std::uint64_t* words, std::size_t count, int eta, std::int8_t* out) {
  // As in `binomial`, with the ones of each nibble looked up.
  const std::uint64_t used = ~std::uint64_t{0} >> (64 - 2 * eta);
  const __m512i used_bits = _mm512_set1_epi64(static_cast<long long>(used));
  const __m512i high_bits = _mm512_set1_epi64(static_cast<long long>(used ^ (used >> eta)));
  const __m512i nibble = _mm512_set1_epi8(15), etas = _mm512_set1_epi64(eta);
  const __m512i ones_of = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
  std::size_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const __m512i x = _mm512_and_si512(_mm512_xor_si512(_mm512_loadu_si512(words + i), high_bits), used_bits);
    const __m512i low = _mm512_shuffle_epi8(ones_of, _mm512_and_si512(x, nibble));
    const __m512i high = _mm512_shuffle_epi8(ones_of, _mm512_and_si512(_mm512_srli_epi16(x, 4), nibble));
    const __m512i sums = _mm512_sad_epu8(_mm512_add_epi8(low, high), _mm512_setzero_si512());
    _mm_storel_epi64(reinterpret_cast<__m128i*>(out + i), _mm512_cvtepi64_epi8(_mm512_sub_epi64(sums, etas)));
  }
  binomial(words + i, count - i, eta, out + i);
}

void count_reached_avx512(const std::uint64_t* words, std::size_t count, const std::uint64_t* thresholds,
                          std::size_t size, std::int8_t* out) {
  const __m512i one = _mm512_set1_epi64(1), zero = _mm512_setzero_si512();
  std::size_t i = 0;
  for (; i + 32 <= count; i += 32) {
    __m512i uniform[4], reached[4];
    for (int k = 0; k < 4; ++k) {
      uniform[k] = _mm512_srli_epi64(_mm512_loadu_si512(words + i + 8 * k), 1);
      reached[k] = zero;
    }
    for (std::size_t j = 0; j < size; ++j) {
      const __m512i threshold = _mm512_set1_epi64(static_cast<long long>(thresholds[j]));
      for (int k = 0; k < 4; ++k)
        reached[k] =
            _mm512_mask_add_epi64(reached[k], _mm512_cmpge_epu64_mask(uniform[k], threshold), reached[k], one);
    }
    for (int k = 0; k < 4; ++k) {
      const __mmask8 negative = _mm512_test_epi64_mask(_mm512_loadu_si512(words + i + 8 * k), one);
      const __m512i result = _mm512_mask_sub_epi64(reached[k], negative, zero, reached[k]);
      _mm_storel_epi64(reinterpret_cast<__m128i*>(out + i + 8 * k), _mm512_cvtepi64_epi8(result));
    }
  }
  count_reached(words + i, count - i, thresholds, size, out + i);
}

void spread_bits_avx512(const std::uint8_t* bytes, std::size_t count, std::uint8_t* out) {
  std::size_t i = 0;
  for (; i + 8 <= count; i += 8) {
    __mmask64 bits;
    __builtin_memcpy(&bits, bytes + i, 8);
    _mm512_storeu_si512(out + 8 * i, _mm512_maskz_set1_epi8(bits, 1));
  }
  spread_bits(bytes + i, count - i, out + 8 * i);
}

}  // namespace

const SampleSteps kSampleStepsAvx512 = {accept_below_avx512, accept_ternary_avx512, binomial_avx512, count_reached_avx512,
                                         spread_bits_avx512};

}  // namespace aero
