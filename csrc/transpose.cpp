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

// Eight rows, eight bytes of each: bit j of byte c of row i becomes bit i of the byte for column 8 c + j.
void transpose_eight_rows(const std::uint8_t* rows, std::uint8_t* out) {
  std::uint64_t w[8];
  for (std::size_t i = 0; i < 8; ++i) std::memcpy(&w[i], rows + i * kTileBytes, 8);
  for (int i = 0; i < 8; i += 2) swap_bits(w[i], w[i + 1], 1, 0x5555555555555555);
  for (int i = 0; i < 8; i += 4)
    for (int k = 0; k < 2; ++k) swap_bits(w[i + k], w[i + k + 2], 2, 0x3333333333333333);
  for (int i = 0; i < 4; ++i) swap_bits(w[i], w[i + 4], 4, 0x0f0f0f0f0f0f0f0f);
  for (std::size_t c = 0; c < 8; ++c)
    for (std::size_t j = 0; j < 8; ++j) out[(kRows / 8) * (8 * c + j)] = static_cast<std::uint8_t>(w[j] >> (8 * c));
}

void transpose_tile_portable(const std::uint8_t* tile, std::uint8_t* out) {
  for (std::size_t byte = 0; byte < kTileBytes; byte += 8)
    for (std::size_t group = 0; group < kRows / 8; ++group)
      transpose_eight_rows(tile + 8 * group * kTileBytes + byte, out + kRows * byte + group);
}

void transpose_tile(const std::uint8_t* tile, std::uint8_t* out) {
#if AERO_X86
  if (level() >= Level::avx512) return transpose_tile_avx512(tile, out);
#endif
  transpose_tile_portable(tile, out);
}

}  // namespace

void transpose_128(const std::uint8_t* in, std::size_t columns, std::uint8_t* out) {
  const std::size_t row_bytes = columns / 8;
  // Rows are often a power of two apart, where they would push each other out of the cache: copy a tile together first.
  alignas(64) std::uint8_t tile[kRows * kTileBytes], transposed[kRows * kTileBytes];
  for (std::size_t done = 0; done < row_bytes; done += kTileBytes) {
    const std::size_t width = row_bytes - done;
    if (width >= kTileBytes) {
      for (std::size_t row = 0; row < kRows; ++row)
        std::memcpy(tile + kTileBytes * row, in + row_bytes * row + done, kTileBytes);
      transpose_tile(tile, out + kRows * done);
    } else {
      std::memset(tile, 0, sizeof tile);
      for (std::size_t row = 0; row < kRows; ++row)
        std::memcpy(tile + kTileBytes * row, in + row_bytes * row + done, width);
      transpose_tile(tile, transposed);
      std::memcpy(out + kRows * done, transposed, kRows * width);
    }
  }
}

}  // namespace aero
