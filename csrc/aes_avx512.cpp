// VAES: four blocks per instruction, thirty-two in flight.
#include <immintrin.h>

#include "aes.h"

namespace aero {
namespace {

constexpr std::size_t kInFlight = 8;                // registers
constexpr std::size_t kBatch = 4 * kInFlight;       // blocks

struct Keys {
  __m512i round[11];
};

inline Keys load(const RoundKeys& keys) {
  Keys k;
  for (int i = 0; i < 11; ++i)
    k.round[i] = _mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(keys.bytes) + i));
  return k;
}

inline void encrypt(const Keys& keys, __m512i (&x)[kInFlight]) {
  for (auto& four : x) four = _mm512_xor_si512(four, keys.round[0]);
  for (int round = 1; round < 10; ++round)
    for (auto& four : x) four = _mm512_aesenc_epi128(four, keys.round[round]);
  for (auto& four : x) four = _mm512_aesenclast_epi128(four, keys.round[10]);
}

// The mask for register i of a batch of which `left` 8-byte words are wanted.
inline __mmask8 words_wanted(std::size_t left, std::size_t i) {
  if (left >= 8 * (i + 1)) return 0xff;
  return left <= 8 * i ? 0 : static_cast<__mmask8>((1u << (left - 8 * i)) - 1);
}

}  // namespace

void aes_counter_avx512(const RoundKeys& keys, std::uint64_t first_block, std::size_t blocks, std::uint8_t* out) {
  const Keys k = load(keys);
  // Counters as little-endian words in the upper half of each block, byte-swapped on their way into the cipher.
  const __m512i to_big_endian = _mm512_broadcast_i32x4(
      _mm_set_epi8(8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7));
  const long long c = static_cast<long long>(first_block);
  __m512i counter = _mm512_set_epi64(c + 3, 0, c + 2, 0, c + 1, 0, c, 0);
  const __m512i four = _mm512_set_epi64(4, 0, 4, 0, 4, 0, 4, 0);
  for (std::size_t done = 0; done < blocks; done += kBatch) {
    __m512i x[kInFlight];
    for (auto& v : x) {
      v = _mm512_shuffle_epi8(counter, to_big_endian);
      counter = _mm512_add_epi64(counter, four);
    }
    encrypt(k, x);
    std::uint8_t* to = out + kBlockBytes * done;
    if (blocks - done >= kBatch)
      for (std::size_t i = 0; i < kInFlight; ++i) _mm512_storeu_si512(to + 64 * i, x[i]);
    else
      for (std::size_t i = 0; i < kInFlight; ++i)
        _mm512_mask_storeu_epi64(to + 64 * i, words_wanted(2 * (blocks - done), i), x[i]);
  }
}

void aes_encrypt_avx512(const RoundKeys& keys, const std::uint8_t* x, std::size_t n, std::uint8_t* out) {
  const Keys k = load(keys);
  for (std::size_t done = 0; done < n; done += kBatch) {
    const std::size_t left = 2 * (n - done);  // words
    __m512i blocks[kInFlight];
    for (std::size_t i = 0; i < kInFlight; ++i)
      blocks[i] = _mm512_maskz_loadu_epi64(words_wanted(left, i), x + kBlockBytes * done + 64 * i);
    encrypt(k, blocks);
    for (std::size_t i = 0; i < kInFlight; ++i)
      _mm512_mask_storeu_epi64(out + kBlockBytes * done + 64 * i, words_wanted(left, i), blocks[i]);
  }
}

void aes_hash_avx512(const RoundKeys& keys, const std::uint8_t* x, const std::uint64_t* tweaks, std::size_t n,
                     std::uint8_t* out) {
  const Keys k = load(keys);
  for (std::size_t done = 0; done < n; done += kBatch) {
    const std::size_t left = 2 * (n - done);  // words
    __m512i first[kInFlight], second[kInFlight];
    for (std::size_t i = 0; i < kInFlight; ++i)
      first[i] = _mm512_maskz_loadu_epi64(words_wanted(left, i), x + kBlockBytes * done + 64 * i);
    encrypt(k, first);
    for (std::size_t i = 0; i < kInFlight; ++i) {
      const __mmask8 wanted = words_wanted(left, i) & 0x55;  // one tweak for each two words
      second[i] = _mm512_xor_si512(first[i], _mm512_maskz_expandloadu_epi64(wanted, tweaks + done + 4 * i));
    }
    encrypt(k, second);
    for (std::size_t i = 0; i < kInFlight; ++i)
      _mm512_mask_storeu_epi64(out + kBlockBytes * done + 64 * i, words_wanted(left, i),
                               _mm512_xor_si512(first[i], second[i]));
  }
}

}  // namespace aero
