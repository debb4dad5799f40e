// VAES: thirty-two nodes in flight, and their children written in place.
#include <immintrin.h>

#include "ggm.h"

namespace aero {
namespace {

constexpr std::size_t kInFlight = 8;           // registers
constexpr std::size_t kBatch = 4 * kInFlight;  // nodes

// The mask for the eight words from `from` on, of which those below `words` are wanted.
inline __mmask8 words_wanted(std::size_t words, std::size_t from) {
  if (words >= from + 8) return 0xff;
  return words <= from ? 0 : static_cast<__mmask8>((1u << (words - from)) - 1);
}

}  // namespace

void grow_level_avx512(const RoundKeys& keys, const std::uint8_t* parents, std::size_t count, std::uint8_t* children,
                       std::uint8_t* left_sum) {
  __m512i k[11];
  for (int i = 0; i < 11; ++i)
    k[i] = _mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(keys.bytes) + i));
  const __m512i low_pairs = _mm512_set_epi64(11, 10, 3, 2, 9, 8, 1, 0);  // of nodes 0 and 1: left, right, left, right
  const __m512i high_pairs = _mm512_set_epi64(15, 14, 7, 6, 13, 12, 5, 4);
  __m512i sum = _mm512_setzero_si512();
  for (std::size_t done = 0; done < count; done += kBatch) {
    const std::size_t words = 2 * (count - done);
    __m512i x[kInFlight], s[kInFlight], h[kInFlight];
    for (std::size_t i = 0; i < kInFlight; ++i) {
      x[i] = _mm512_maskz_loadu_epi64(words_wanted(words, 8 * i), parents + kBlockBytes * done + 64 * i);
      // (low, high) -> (high, low ^ high)
      s[i] = _mm512_xor_si512(_mm512_shuffle_epi32(x[i], _MM_PERM_BADC), _mm512_maskz_mov_epi64(0xaa, x[i]));
      h[i] = _mm512_xor_si512(s[i], k[0]);
    }
    for (int round = 1; round < 10; ++round)
      for (auto& v : h) v = _mm512_aesenc_epi128(v, k[round]);
    for (std::size_t i = 0; i < kInFlight; ++i) {
      const __mmask8 wanted = words_wanted(words, 8 * i);
      h[i] = _mm512_xor_si512(_mm512_aesenclast_epi128(h[i], k[10]), s[i]);
      sum = _mm512_mask_xor_epi64(sum, wanted, sum, h[i]);
      if (children == nullptr) continue;
      const __m512i right = _mm512_xor_si512(x[i], h[i]);
      std::uint8_t* to = children + 2 * kBlockBytes * done + 128 * i;
      _mm512_mask_storeu_epi64(to, words_wanted(2 * words, 16 * i), _mm512_permutex2var_epi64(h[i], low_pairs, right));
      _mm512_mask_storeu_epi64(to + 64, words_wanted(2 * words, 16 * i + 8),
                               _mm512_permutex2var_epi64(h[i], high_pairs, right));
    }
  }
  const __m256i half = _mm256_xor_si256(_mm512_castsi512_si256(sum), _mm512_extracti64x4_epi64(sum, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(left_sum),
                   _mm_xor_si128(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1)));
}

}  // namespace aero
