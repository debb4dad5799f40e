// AES-NI: one block per instruction, eight in flight.
#include <immintrin.h>

#include <cstring>

#include "aes.h"
#include "aes_schedule.h"

namespace aero {
namespace {

constexpr std::size_t kInFlight = 8;

struct Keys {
  __m128i round[11];
};

inline Keys load(const RoundKeys& keys) {
  Keys k;
  for (int i = 0; i < 11; ++i) k.round[i] = _mm_load_si128(reinterpret_cast<const __m128i*>(keys.bytes) + i);
  return k;
}

inline void encrypt(const Keys& keys, __m128i (&x)[kInFlight]) {
  for (auto& block : x) block = _mm_xor_si128(block, keys.round[0]);
  for (int round = 1; round < 10; ++round)
    for (auto& block : x) block = _mm_aesenc_si128(block, keys.round[round]);
  for (auto& block : x) block = _mm_aesenclast_si128(block, keys.round[10]);
}

// In a state of four equal columns the row shifts do nothing, which leaves the S-box.
std::uint32_t substitute_word(std::uint32_t word) {
  const __m128i state = _mm_set1_epi32(static_cast<int>(word));
  return static_cast<std::uint32_t>(_mm_cvtsi128_si32(_mm_aesenclast_si128(state, _mm_setzero_si128())));
}

}  // namespace

void expand_key_avx2(const std::uint8_t* key, RoundKeys& keys) { expand_key_with(substitute_word, key, keys); }

void aes_counter_avx2(const RoundKeys& keys, std::uint64_t first_block, std::size_t blocks, std::uint8_t* out) {
  const Keys k = load(keys);
  __m128i* to = reinterpret_cast<__m128i*>(out);
  for (std::size_t done = 0; done < blocks; done += kInFlight) {
    __m128i x[kInFlight];
    for (std::size_t i = 0; i < kInFlight; ++i)
      x[i] = _mm_set_epi64x(static_cast<long long>(__builtin_bswap64(first_block + done + i)), 0);
    encrypt(k, x);
    if (blocks - done >= kInFlight)
      for (std::size_t i = 0; i < kInFlight; ++i) _mm_storeu_si128(to + done + i, x[i]);
    else
      for (std::size_t i = 0; i < blocks - done; ++i) _mm_storeu_si128(to + done + i, x[i]);
  }
}

void aes_encrypt_avx2(const RoundKeys& keys, const std::uint8_t* x, std::size_t n, std::uint8_t* out) {
  const Keys k = load(keys);
  const __m128i* from = reinterpret_cast<const __m128i*>(x);
  for (std::size_t done = 0; done < n; done += kInFlight) {
    const std::size_t now = n - done < kInFlight ? n - done : kInFlight;
    __m128i blocks[kInFlight];
    for (std::size_t i = 0; i < kInFlight; ++i)
      blocks[i] = i < now ? _mm_loadu_si128(from + done + i) : _mm_setzero_si128();
    encrypt(k, blocks);
    for (std::size_t i = 0; i < now; ++i) _mm_storeu_si128(reinterpret_cast<__m128i*>(out) + done + i, blocks[i]);
  }
}

void aes_hash_avx2(const RoundKeys& keys, const std::uint8_t* x, const std::uint64_t* tweaks, std::size_t n,
                   std::uint8_t* out) {
  const Keys k = load(keys);
  for (std::size_t done = 0; done < n; done += kInFlight) {
    const std::size_t now = n - done < kInFlight ? n - done : kInFlight;
    __m128i first[kInFlight], second[kInFlight];
    for (std::size_t i = 0; i < kInFlight; ++i)
      first[i] = i < now ? _mm_loadu_si128(reinterpret_cast<const __m128i*>(x) + done + i) : _mm_setzero_si128();
    encrypt(k, first);
    for (std::size_t i = 0; i < kInFlight; ++i)
      second[i] = _mm_xor_si128(first[i], _mm_cvtsi64_si128(i < now ? static_cast<long long>(tweaks[done + i]) : 0));
    encrypt(k, second);
    for (std::size_t i = 0; i < now; ++i)
      _mm_storeu_si128(reinterpret_cast<__m128i*>(out) + done + i, _mm_xor_si128(first[i], second[i]));
  }
}

}  // namespace aero
