// VAES: thirty-two nodes in flight.
#include <immintrin.h>

#include "ggm.h"

namespace aero {
namespace {

constexpr std::size_t kNodes = 4;  // in a register

struct Level {
  __m512i key[11], kept;  // kept: mask of children
  std::uint8_t* nodes;
  bool with_children;
};

// From the nodes number `at` on, as many registers as there are: their children, and the sum of the left ones.
template <std::size_t Registers>
inline __m512i grow(const Level& level, std::size_t at) {
  const __m512i low_pairs = _mm512_set_epi64(11, 10, 3, 2, 9, 8, 1, 0);  // of nodes 0 and 1: left, right, left, right
  const __m512i high_pairs = _mm512_set_epi64(15, 14, 7, 6, 13, 12, 5, 4);
  __m512i x[Registers], s[Registers], h[Registers], sum = _mm512_setzero_si512();
  for (std::size_t i = 0; i < Registers; ++i) {
    x[i] = _mm512_loadu_si512(level.nodes + kBlockBytes * (at + kNodes * i));
    // (low, high) -> (high, low ^ high)
    s[i] = _mm512_xor_si512(_mm512_shuffle_epi32(x[i], _MM_PERM_BADC), _mm512_maskz_mov_epi64(0xaa, x[i]));
    h[i] = _mm512_xor_si512(s[i], level.key[0]);
  }
  for (int round = 1; round < 10; ++round)
    for (auto& v : h) v = _mm512_aesenc_epi128(v, level.key[round]);
  for (std::size_t i = 0; i < Registers; ++i) {
    const __m512i left = _mm512_xor_si512(_mm512_aesenclast_epi128(h[i], level.key[10]), s[i]);
    sum = _mm512_xor_si512(sum, left);
    if (!level.with_children) continue;
    const __m512i kept_left = _mm512_and_si512(left, level.kept);
    const __m512i kept_right = _mm512_and_si512(_mm512_xor_si512(left, x[i]), level.kept);
    std::uint8_t* to = level.nodes + 2 * kBlockBytes * (at + kNodes * i);
    _mm512_storeu_si512(to, _mm512_permutex2var_epi64(kept_left, low_pairs, kept_right));
    _mm512_storeu_si512(to + 64, _mm512_permutex2var_epi64(kept_left, high_pairs, kept_right));
  }
  return sum;
}

}  // namespace

void grow_level_avx512(const RoundKeys& keys, std::uint8_t* nodes, std::size_t count, Children children,
                       std::uint8_t* left_sum) {
  Level level;
  for (int i = 0; i < 11; ++i)
    level.key[i] = _mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(keys.bytes) + i));
  level.kept = _mm512_broadcast_i32x4(_mm_set_epi64x(-1, children == Children::leaves ? ~1ll : -1));
  level.nodes = nodes;
  level.with_children = children != Children::none;
  __m512i sum = _mm512_setzero_si512();
  // From the last nodes to the first, so that no children come over nodes that are still to be read.
  std::size_t at = count;
  for (; at % (8 * kNodes) != 0; at -= 2 * kNodes) sum = _mm512_xor_si512(sum, grow<2>(level, at - 2 * kNodes));
  for (; at > 0; at -= 8 * kNodes) sum = _mm512_xor_si512(sum, grow<8>(level, at - 8 * kNodes));
  const __m256i half = _mm256_xor_si256(_mm512_castsi512_si256(sum), _mm512_extracti64x4_epi64(sum, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(left_sum),
                   _mm_xor_si128(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1)));
}

}  // namespace aero
