// VAES: thirty-two blocks in flight.
#include <immintrin.h>

#include "ot_pads.h"

namespace aero {
namespace {

constexpr std::size_t kInFlight = 8;  // registers of four blocks

class Hash {
 public:
  // `tweaks`: of the four blocks of the first register, each in the lower half of a block. `step`: from one register to
  // the next.
  Hash(const RoundKeys& keys, __m512i tweaks, std::uint64_t step)
      : tweaks_(tweaks), step_(_mm512_maskz_set1_epi64(0x55, static_cast<long long>(step))) {
    for (int i = 0; i < 11; ++i)
      key_[i] = _mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(keys.bytes) + i));
  }

  // The hashes of the next blocks.
  void next(const __m512i (&x)[kInFlight], std::uint8_t* out) {
    __m512i first[kInFlight], second[kInFlight];
    for (std::size_t i = 0; i < kInFlight; ++i) first[i] = x[i];
    encrypt(first);
    for (std::size_t i = 0; i < kInFlight; ++i) {
      second[i] = _mm512_xor_si512(first[i], tweaks_);
      tweaks_ = _mm512_add_epi64(tweaks_, step_);
    }
    encrypt(second);
    for (std::size_t i = 0; i < kInFlight; ++i)
      _mm512_storeu_si512(out + 64 * i, _mm512_xor_si512(first[i], second[i]));
  }

 private:
  void encrypt(__m512i (&x)[kInFlight]) const {
    for (auto& four : x) four = _mm512_xor_si512(four, key_[0]);
    for (int round = 1; round < 10; ++round)
      for (auto& four : x) four = _mm512_aesenc_epi128(four, key_[round]);
    for (auto& four : x) four = _mm512_aesenclast_epi128(four, key_[10]);
  }

  __m512i key_[11], tweaks_, step_;
};

// The words i of four tweaks, the first plus 0 to 3.
inline __m512i tweaks(std::uint64_t first, int a, int b, int c, int d) {
  const long long t = static_cast<long long>(first);
  return _mm512_set_epi64(0, t + d, 0, t + c, 0, t + b, 0, t + a);
}

}  // namespace

void sender_pads_avx512(const RoundKeys& keys, std::uint64_t tweak, const std::uint8_t* delta, const std::uint8_t* k,
                        std::size_t n, std::uint8_t* out) {
  Hash hash(keys, tweaks(tweak, 0, 0, 1, 1), 2);
  const __m512i low = _mm512_set_epi64(3, 2, 3, 2, 1, 0, 1, 0), high = _mm512_set_epi64(7, 6, 7, 6, 5, 4, 5, 4);
  const __m512i difference =  // of the second block of each pair
      _mm512_maskz_broadcast_i32x4(0xf0f0, _mm_loadu_si128(reinterpret_cast<const __m128i*>(delta)));
  for (std::size_t done = 0; done < n; done += 2 * kInFlight) {
    __m512i x[kInFlight];
    for (std::size_t i = 0; i < kInFlight / 2; ++i) {
      const __m512i four = _mm512_loadu_si512(k + kBlockBytes * (done + 4 * i));
      x[2 * i] = _mm512_xor_si512(_mm512_permutexvar_epi64(low, four), difference);
      x[2 * i + 1] = _mm512_xor_si512(_mm512_permutexvar_epi64(high, four), difference);
    }
    hash.next(x, out + 2 * kBlockBytes * done);
  }
}

void receiver_pads_avx512(const RoundKeys& keys, std::uint64_t tweak, const std::uint8_t* m, std::size_t n,
                          std::uint8_t* out) {
  Hash hash(keys, tweaks(tweak, 0, 1, 2, 3), 4);
  for (std::size_t done = 0; done < n; done += 4 * kInFlight) {
    __m512i x[kInFlight];
    for (std::size_t i = 0; i < kInFlight; ++i) x[i] = _mm512_loadu_si512(m + kBlockBytes * (done + 4 * i));
    hash.next(x, out + kBlockBytes * done);
  }
}

}  // namespace aero
