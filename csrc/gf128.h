// Inner products in GF(2^128) = GF(2)[X] / (X^128 + X^7 + X^2 + X + 1): the universal hash of the checks on oblivious
// transfers. The coefficient of X^i is bit i mod 8 of byte i div 8 of a block.
#pragma once

#include <cstddef>
#include <cstdint>

namespace aero {

// out[r] = sum of x[j] y[r n + j] over j < n, and picked[r] = XOR of the x[j] for which the lowest bit of y[r n + j] is
// one, for r < rows. Constant time: no branch and no address depends on x or y.
void gf128_dot(const std::uint8_t* x, const std::uint8_t* y, std::size_t rows, std::size_t n, std::uint8_t* out,
               std::uint8_t* picked);

// One row: the sum of products before it is reduced, 256 bits, and what is picked.
struct Gf128Row {
  std::uint64_t product[4], picked[2];
};
void gf128_row_avx2(const std::uint8_t* x, const std::uint8_t* y, std::size_t n, Gf128Row& row);
void gf128_row_avx512(const std::uint8_t* x, const std::uint8_t* y, std::size_t n, Gf128Row& row);
void gf128_row_armv8(const std::uint8_t* x, const std::uint8_t* y, std::size_t n, Gf128Row& row);

}  // namespace aero
