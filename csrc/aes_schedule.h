// The AES-128 key schedule (FIPS 197, section 5.2) over any way to substitute the four bytes of a word.
#pragma once

#include <cstdint>
#include <cstring>

#include "aes.h"

namespace aero {

static inline void expand_key_with(std::uint32_t (*substitute)(std::uint32_t), const std::uint8_t* key,
                                   RoundKeys& keys) {
  std::uint32_t w[44];  // little-endian words, so RotWord turns to the right
  std::memcpy(w, key, kBlockBytes);
  std::uint32_t constant = 1;
  for (int i = 4; i < 44; ++i) {
    std::uint32_t word = w[i - 1];
    if (i % 4 == 0) {
      word = substitute((word >> 8) | (word << 24)) ^ constant;
      constant = (constant << 1) ^ ((constant >> 7) * 0x11b);
    }
    w[i] = w[i - 4] ^ word;
  }
  std::memcpy(keys.bytes, w, sizeof w);
}

}  // namespace aero
