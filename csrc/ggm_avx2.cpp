// AES-NI: eight nodes in flight.
#include <immintrin.h>

#include "ggm.h"

namespace aero {
namespace {

constexpr std::size_t kInFlight = 8;

// (low, high) -> (high, low ^ high)
inline __m128i mix(__m128i x) {
  return _mm_xor_si128(_mm_shuffle_epi32(x, 0x4e), _mm_and_si128(x, _mm_set_epi64x(-1, 0)));
}

}  // namespace

void grow_level_avx2(const RoundKeys& keys, std::uint8_t* nodes, std::size_t count, Children children,
                     std::uint8_t* left_sum) {
  const __m128i* key = reinterpret_cast<const __m128i*>(keys.bytes);
  const __m128i kept = _mm_set_epi64x(-1, children == Children::leaves ? ~1ll : -1);
  __m128i sum = _mm_setzero_si128();
  // From the last nodes to the first, so that no children come over nodes that are still to be read.
  for (std::size_t at = count; at > 0; at -= kInFlight) {
    const __m128i* from = reinterpret_cast<const __m128i*>(nodes) + (at - kInFlight);
    __m128i* pairs = reinterpret_cast<__m128i*>(nodes) + 2 * (at - kInFlight);
    __m128i x[kInFlight], h[kInFlight];
    for (std::size_t i = 0; i < kInFlight; ++i) {
      x[i] = _mm_loadu_si128(from + i);
      h[i] = _mm_xor_si128(mix(x[i]), _mm_load_si128(key));
    }
    for (int round = 1; round < 10; ++round)
      for (auto& v : h) v = _mm_aesenc_si128(v, _mm_load_si128(key + round));
    for (std::size_t i = 0; i < kInFlight; ++i) {
      const __m128i left = _mm_xor_si128(_mm_aesenclast_si128(h[i], _mm_load_si128(key + 10)), mix(x[i]));
      sum = _mm_xor_si128(sum, left);
      if (children == Children::none) continue;
      _mm_storeu_si128(pairs + 2 * i, _mm_and_si128(left, kept));
      _mm_storeu_si128(pairs + 2 * i + 1, _mm_and_si128(_mm_xor_si128(left, x[i]), kept));
    }
  }
  _mm_storeu_si128(reinterpret_cast<__m128i*>(left_sum), sum);
}

}  // namespace aero
