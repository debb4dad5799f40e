// Transposing a bit matrix of 128 rows: the step from columns to rows in oblivious-transfer extension.
#pragma once

#include <cstddef>
#include <cstdint>

namespace aero {

constexpr std::size_t kRows = 128;

// `in` has 128 rows of `columns` bits, `columns` a multiple of 8, each row packed into columns / 8 bytes, lowest bit
// first. Bit r mod 8 of byte r div 8 of the 16-byte block c of `out` is bit c of row r.
void transpose_128(const std::uint8_t* in, std::size_t columns, std::uint8_t* out);

// One tile: 128 rows of kTileBytes bytes, one after the other, to 8 kTileBytes blocks.
constexpr std::size_t kTileBytes = 64;
void transpose_tile_avx512(const std::uint8_t* tile, std::uint8_t* out);

}  // namespace aero
