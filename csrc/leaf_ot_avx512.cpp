// Sixteen digits of four bits at a time, one to a 32-bit lane.
#include <immintrin.h>

#include "leaf_ot.h"

namespace aero {
namespace {

constexpr std::size_t kDigits = 16;

inline __m512i lanes(const std::uint8_t* bytes) {
  return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes)));
}

// From vectors that are zero outside the first word of each 16 bytes: the XOR of those words, of each vector.
inline __m128i fold(__m512i a, __m512i b, __m512i c, __m512i d) {
  const __m512i all = _mm512_or_si512(_mm512_or_si512(a, _mm512_bslli_epi128(b, 4)),
                                      _mm512_or_si512(_mm512_bslli_epi128(c, 8), _mm512_bslli_epi128(d, 12)));
  const __m256i half = _mm256_xor_si256(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64(all, 1));
  return _mm_xor_si128(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}

inline __m512i join(const __m128i (&quarters)[4]) {
  __m512i all = _mm512_castsi128_si512(quarters[0]);
  all = _mm512_inserti32x4(all, quarters[1], 1);
  all = _mm512_inserti32x4(all, quarters[2], 2);
  return _mm512_inserti32x4(all, quarters[3], 3);
}

// One set of constants for each size of a message: see leaf_ot.cpp.
struct Constants {
  std::uint32_t set[4], first, whole;
};

inline Constants constants(int size) {
  if (size == 1) return {{0xaaaa, 0xcccc, 0xf0f0, 0xff00}, 0xffff, 0xffff};
  return {{0xcccccccc, 0xf0f0f0f0, 0xff00ff00, 0xffff0000}, 0x55555555, 0xffffffff};
}

inline __m512i everywhere(std::uint32_t word) { return _mm512_set1_epi32(static_cast<int>(word)); }

}  // namespace

std::size_t leaf_tables_avx512(const std::uint8_t* blocks, const std::uint8_t* digits, const std::uint8_t* corrections,
                               const std::uint8_t* masks, std::size_t n, int size, std::uint64_t* out) {
  const Constants k = constants(size);
  const auto word = [](std::uint32_t w) { return static_cast<int>(w); };
  // Of the blocks r[i][0] and r[i][1], what belongs to entries with bit i unset and set.
  const __m512i low = _mm512_set_epi32(0, 0, 0, word(k.set[1]), 0, 0, 0, word(~k.set[1]), 0, 0, 0, word(k.set[0]), 0,
                                       0, 0, word(~k.set[0]));
  const __m512i high = _mm512_set_epi32(0, 0, 0, word(k.set[3]), 0, 0, 0, word(~k.set[3]), 0, 0, 0, word(k.set[2]), 0,
                                        0, 0, word(~k.set[2]));
  const __m512i first = everywhere(k.first), rest = everywhere(k.whole & ~k.first), one = everywhere(1);
  std::size_t done = 0;
  for (; n - done >= kDigits; done += kDigits) {
    __m128i quarters[4];
    for (int q = 0; q < 4; ++q) {
      __m512i part[4];
      for (int i = 0; i < 4; ++i) {
        const std::uint8_t* at = blocks + 128 * (done + static_cast<std::size_t>(4 * q + i));
        part[i] = _mm512_xor_si512(_mm512_and_si512(_mm512_loadu_si512(at), low),
                                   _mm512_and_si512(_mm512_loadu_si512(at + 64), high));
      }
      quarters[q] = fold(part[0], part[1], part[2], part[3]);
    }
    const __m512i a = _mm512_mullo_epi32(lanes(digits + done), everywhere(static_cast<std::uint32_t>(size)));
    __m512i table = _mm512_and_si512(_mm512_sub_epi32(_mm512_sllv_epi32(one, a), one), first);
    if (size == 2) table = _mm512_or_si512(table, _mm512_sllv_epi32(everywhere(2), a));
    const __m512i d = lanes(corrections + done);
    for (int i = 0; i < 4; ++i) {
      const __m512i set = everywhere(k.set[i]);
      const __m128i by = _mm_cvtsi32_si128(size << i);
      const __m512i exchanged = _mm512_or_si512(_mm512_srl_epi32(_mm512_and_si512(table, set), by),
                                                _mm512_and_si512(_mm512_sll_epi32(table, by), set));
      table = _mm512_mask_mov_epi32(table, _mm512_test_epi32_mask(d, everywhere(1u << i)), exchanged);
    }
    const __m512i m = lanes(masks + done);
    table = _mm512_mask_xor_epi32(table, _mm512_test_epi32_mask(m, one), table, first);
    table = _mm512_mask_xor_epi32(table, _mm512_test_epi32_mask(m, everywhere(2)), table, rest);
    table = _mm512_and_si512(_mm512_xor_si512(table, join(quarters)), everywhere(k.whole));
    _mm512_storeu_si512(out + done, _mm512_cvtepu32_epi64(_mm512_castsi512_si256(table)));
    _mm512_storeu_si512(out + done + 8, _mm512_cvtepu32_epi64(_mm512_extracti64x4_epi64(table, 1)));
  }
  return done;
}

std::size_t leaf_choices_avx512(const std::uint8_t* choices, const std::uint8_t* blocks, const std::uint8_t* digits,
                                std::size_t n, int size, std::uint8_t* corrections, std::uint8_t* pads) {
  const __mmask16 words = 0x1111;
  std::size_t done = 0;
  for (; n - done >= kDigits; done += kDigits) {
    __m128i quarters[4];
    for (int q = 0; q < 4; ++q) {
      __m512i part[4];
      for (int i = 0; i < 4; ++i)
        part[i] = _mm512_maskz_loadu_epi32(words, blocks + 64 * (done + static_cast<std::size_t>(4 * q + i)));
      quarters[q] = fold(part[0], part[1], part[2], part[3]);
    }
    const __m512i bits = _mm512_and_si512(_mm512_loadu_si512(choices + 4 * done), everywhere(0x01010101));
    const __m512i pairs = _mm512_or_si512(bits, _mm512_srli_epi32(bits, 7));
    const __m512i c = _mm512_and_si512(_mm512_or_si512(pairs, _mm512_srli_epi32(pairs, 14)), everywhere(15));
    const __m512i at = _mm512_mullo_epi32(c, everywhere(static_cast<std::uint32_t>(size)));
    const __m512i pad = _mm512_and_si512(_mm512_srlv_epi32(join(quarters), at), everywhere((1u << size) - 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(pads + done), _mm512_cvtepi32_epi8(pad));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(corrections + done),
                     _mm512_cvtepi32_epi8(_mm512_xor_si512(c, lanes(digits + done))));
  }
  return done;
}

}  // namespace aero
