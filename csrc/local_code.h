// The code of silent OT's LPN: every output is the sum of ten pseudorandom places of the secret (Yang et al., "Ferret",
// 2020, section 5: local linear codes with d = 10). The code is public; so are the addresses touched.
#pragma once

#include <cstddef>
#include <cstdint>

#include "aes.h"

namespace aero {

constexpr std::size_t kCodeWeight = 10;

// inout[j] ^= XOR over l < 10 of table[i_l] for n outputs from number `first` on, `first` even: i_l are the low `log_size`
// bits of the 32-bit little-endian words 10 (first + j) + l of the key's counter stream. `table` has 2^log_size blocks.
void add_code(const RoundKeys& key, std::uint64_t first, const std::uint8_t* table, int log_size, std::size_t n,
              std::uint8_t* inout);

}  // namespace aero
