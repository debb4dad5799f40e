// Sums over the leaves of small trees: the inner loop of SoftSpokenOT (Roy 2022, section 3), a vector oblivious linear
// evaluation over GF(2^k) from all the leaves of a tree but one.
#pragma once

#include <cstddef>
#include <cstdint>

namespace aero {

constexpr int kMaxLeafBits = 8;

// Each leaf is the key of an AES-128 counter stream; r_x is the piece of leaf x's stream that begins at `first_block`
// and has `row_bytes` bytes, a multiple of 16. For each of the groups, of 2^k leaves,
//     sums[g]         = XOR of r_x over all x,
//     rows[g k + b]   = XOR of r_x over those x whose bit b is one,
// with `leaf_keys` [groups][2^k][16], `sums` [groups][row_bytes], `rows` [groups k][row_bytes].
void leaf_sums(const std::uint8_t* leaf_keys, std::size_t groups, int k, std::uint64_t first_block,
               std::size_t row_bytes, std::uint8_t* sums, std::uint8_t* rows);

}  // namespace aero
