// The code of silent OT's LPN: every output is the sum of ten pseudorandom places of the secret (Yang et al., "Ferret",
// 2020, section 5: local linear codes with d = 10). The code is public; so are the addresses touched.
#pragma once

#include <cstddef>
#include <cstdint>

#include "aes.h"

namespace aero {

constexpr std::size_t kCodeWeight = 10;

constexpr int kMaxLogSize = 21;

// The code's places come from the counter stream of `key`; `table` is the secret, 2^log_size blocks.
struct LocalCode {
  RoundKeys key;
  const std::uint8_t* table;
  int log_size;
};

// inout[j] ^= XOR over l < 10 of table[i_l] for n outputs from number `first` on. i_l are the low `log_size` bits, at most
// 21, of the third of a 64-bit word: of the bits 21 (l mod 3) and on of word 4 (first + j) + l div 3, little-endian, of
// the stream. In this thread alone.
void add_code(const LocalCode& code, std::uint64_t first, std::size_t n, std::uint8_t* inout);

}  // namespace aero
