// AES-NI: eight blocks in flight.
#include <immintrin.h>

#include "ot_pads.h"

namespace aero {
namespace {

constexpr std::size_t kInFlight = 8;

inline void encrypt(const __m128i* key, __m128i (&x)[kInFlight]) {
  for (auto& block : x) block = _mm_xor_si128(block, _mm_load_si128(key));
  for (int round = 1; round < 10; ++round)
    for (auto& block : x) block = _mm_aesenc_si128(block, _mm_load_si128(key + round));
  for (auto& block : x) block = _mm_aesenclast_si128(block, _mm_load_si128(key + 10));
}

// The hashes of x to `out`. Each tweak, from the first on, is that of `each` blocks.
inline void hash(const RoundKeys& keys, __m128i (&x)[kInFlight], std::uint64_t tweak, std::size_t each,
                 std::uint8_t* out) {
  const __m128i* key = reinterpret_cast<const __m128i*>(keys.bytes);
  __m128i first[kInFlight];
  encrypt(key, x);
  for (std::size_t i = 0; i < kInFlight; ++i) {
    first[i] = x[i];
    x[i] = _mm_xor_si128(x[i], _mm_cvtsi64_si128(static_cast<long long>(tweak + i / each)));
  }
  encrypt(key, x);
  for (std::size_t i = 0; i < kInFlight; ++i)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out) + i, _mm_xor_si128(first[i], x[i]));
}

}  // namespace

void sender_pads_avx2(const RoundKeys& keys, std::uint64_t tweak, const std::uint8_t* delta, const std::uint8_t* k,
                      std::size_t n, std::uint8_t* out) {
  const __m128i difference = _mm_loadu_si128(reinterpret_cast<const __m128i*>(delta));
  for (std::size_t done = 0; done < n; done += kInFlight / 2) {
    __m128i x[kInFlight];
    for (std::size_t i = 0; i < kInFlight / 2; ++i) {
      x[2 * i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(k) + done + i);
      x[2 * i + 1] = _mm_xor_si128(x[2 * i], difference);
    }
    hash(keys, x, tweak + done, 2, out + 2 * kBlockBytes * done);
  }
}

void receiver_pads_avx2(const RoundKeys& keys, std::uint64_t tweak, const std::uint8_t* m, std::size_t n,
                        std::uint8_t* out) {
  for (std::size_t done = 0; done < n; done += kInFlight) {
    __m128i x[kInFlight];
    for (std::size_t i = 0; i < kInFlight; ++i) x[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(m) + done + i);
    hash(keys, x, tweak + done, 1, out + kBlockBytes * done);
  }
}

}  // namespace aero
