#include "transpose.h"

#include <cstring>

#include "dispatch.h"

namespace aero {
namespace {

inline void swap_bits(std::uint64_t& a, std::uint64_t& b, int shift, std::uint64_t mask) {
  const std::uint64_t t = ((a >> shift) ^ b) & mask;
  b ^= t;
  a ^= t << shift;
}

// Eight rows, eight bytes of each (`width` of them used): bit j of byte c of row i becomes bit i of byte c of word j.
void transpose_eight_rows(const std::uint8_t* in, std::size_t row_bytes, std::size_t width, std::uint8_t* out) {
  std::uint64_t w[8] = {};
  for (int i = 0; i < 8; ++i) std::memcpy(&w[i], in + static_cast<std::size_t>(i) * row_bytes, width);
  for (int i = 0; i < 8; i += 2) swap_bits(w[i], w[i + 1], 1, 0x5555555555555555);
  for (int i = 0; i < 8; i += 4)
    for (int k = 0; k < 2; ++k) swap_bits(w[i + k], w[i + k + 2], 2, 0x3333333333333333);
  for (int i = 0; i < 4; ++i) swap_bits(w[i], w[i + 4], 4, 0x0f0f0f0f0f0f0f0f);
  for (std::size_t c = 0; c < width; ++c)
    for (std::size_t j = 0; j < 8; ++j) out[(kRows / 8) * (8 * c + j)] = static_cast<std::uint8_t>(w[j] >> (8 * c));
}

}  // namespace

void transpose_128(const std::uint8_t* in, std::size_t columns, std::uint8_t* out) {
  const std::size_t row_bytes = columns / 8;
  std::size_t done = 0;
#if AERO_X86
  if (level() >= Level::avx512) done = transpose_128_avx512(in, row_bytes, out);
#endif
  for (; done < row_bytes; done += 8) {
    const std::size_t width = row_bytes - done < 8 ? row_bytes - done : 8;
    for (std::size_t group = 0; group < kRows / 8; ++group)
      transpose_eight_rows(in + 8 * group * row_bytes + done, row_bytes, width, out + kRows * done + group);
  }
}

}  // namespace aero
