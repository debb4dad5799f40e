// A group of eight values is one register; bytes are moved to their places by one or two byte permutations.
#include <immintrin.h>

#include "bitpack.h"

namespace aero {
namespace {

// Where the eight values of a group go: value i, moved up by i width mod 8 bits, begins at byte i width div 8. Only
// neighbours share a byte, so even and odd values are placed apart and joined by an OR.
struct Placement {
  __m512i shift, even, odd;
  __mmask64 even_bytes, odd_bytes;
};

Placement placement(int width) {
  alignas(64) std::uint64_t shift[8];
  alignas(64) std::uint8_t index[2][64] = {};
  std::uint64_t mask[2] = {0, 0};
  for (int i = 0; i < 8; ++i) {
    shift[i] = static_cast<std::uint64_t>(i * width % 8);
    const int from = i * width / 8, to = ((i + 1) * width - 1) / 8;
    for (int byte = from; byte <= to; ++byte) {
      index[i % 2][byte] = static_cast<std::uint8_t>(8 * i + byte - from);
      mask[i % 2] |= std::uint64_t{1} << byte;
    }
  }
  return {_mm512_load_si512(shift), _mm512_load_si512(index[0]), _mm512_load_si512(index[1]), mask[0], mask[1]};
}

// Widths below 8: the low byte of each value, and a bit extraction over the eight of them.
std::size_t pack_narrow_groups(const std::uint64_t* values, std::size_t groups, int width, std::uint8_t* out,
                               __m512i& used) {
  const std::uint64_t wanted = 0x0101010101010101 * ((1u << width) - 1);
  const std::size_t step = static_cast<std::size_t>(width);
  std::size_t g = 0;
  for (; (groups - g) * step >= 8; ++g) {  // room for eight bytes, of which the next group overwrites the last
    const __m512i lanes = _mm512_loadu_si512(values + 8 * g);
    used = _mm512_or_si512(used, lanes);
    const long long bytes = _mm_cvtsi128_si64(_mm512_cvtepi64_epi8(lanes));
    const std::uint64_t packed = _pext_u64(static_cast<std::uint64_t>(bytes), wanted);
    __builtin_memcpy(out + g * step, &packed, 8);
  }
  return g;
}

std::size_t pack_groups(const std::uint64_t* values, std::size_t groups, int width, std::uint8_t* out, __m512i& used) {
  if (width > 57) return 0;  // a shifted value would not fit its lane
  if (width < 8) return pack_narrow_groups(values, groups, width, out, used);
  const Placement place = placement(width);
  const __m512i low = _mm512_set1_epi64(static_cast<long long>(~std::uint64_t{0} >> (64 - width)));
  const __mmask64 written = ~std::uint64_t{0} >> (64 - width);
  for (std::size_t g = 0; g < groups; ++g) {
    const __m512i whole = _mm512_loadu_si512(values + 8 * g);
    used = _mm512_or_si512(used, whole);
    const __m512i lanes = _mm512_sllv_epi64(_mm512_and_si512(whole, low), place.shift);
    const __m512i packed = _mm512_or_si512(_mm512_maskz_permutexvar_epi8(place.even_bytes, place.even, lanes),
                                           _mm512_maskz_permutexvar_epi8(place.odd_bytes, place.odd, lanes));
    _mm512_mask_storeu_epi8(out + g * static_cast<std::size_t>(width), written, packed);
  }
  return groups;
}

}  // namespace

std::size_t bit_pack_groups_avx512(const std::uint64_t* values, std::size_t groups, int width, std::uint8_t* out,
                                   std::uint64_t& used) {
  __m512i seen = _mm512_setzero_si512();
  const std::size_t done = pack_groups(values, groups, width, out, seen);
  used |= static_cast<std::uint64_t>(_mm512_reduce_or_epi64(seen));
  return done;
}

std::size_t bit_unpack_groups_avx512(const std::uint8_t* bytes, std::size_t groups, int width, std::uint64_t* out) {
  if (width > 57) return 0;  // a value may lie across nine bytes
  alignas(64) std::uint64_t shifts[8];
  alignas(64) std::uint8_t indices[64];
  for (int i = 0; i < 8; ++i) {
    shifts[i] = static_cast<std::uint64_t>(i * width % 8);
    for (int byte = 0; byte < 8; ++byte) indices[8 * i + byte] = static_cast<std::uint8_t>(i * width / 8 + byte);
  }
  const __m512i index = _mm512_load_si512(indices), shift = _mm512_load_si512(shifts);
  const __m512i low = _mm512_set1_epi64(static_cast<long long>(~std::uint64_t{0} >> (64 - width)));
  const __mmask64 read = ~std::uint64_t{0} >> (64 - width);
  for (std::size_t g = 0; g < groups; ++g) {
    const __m512i packed = _mm512_maskz_loadu_epi8(read, bytes + g * static_cast<std::size_t>(width));
    const __m512i lanes = _mm512_srlv_epi64(_mm512_permutexvar_epi8(index, packed), shift);
    _mm512_storeu_si512(out + 8 * g, _mm512_and_si512(lanes, low));
  }
  return groups;
}

}  // namespace aero
