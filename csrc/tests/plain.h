// Plain definitions that several parts of the self-test compare with: AES as FIPS 197 writes it, and arithmetic modulo
// q by division. Slow, and not in constant time.
#pragma once

#include <cstring>
#include <utility>

#include "check.h"

namespace aero {
namespace plain {

// x y in GF(2^8) modulo x^8 + x^4 + x^3 + x + 1.
inline std::uint8_t times(std::uint8_t x, std::uint8_t y) {
  unsigned sum = 0;
  for (int i = 0; i < 8; ++i) sum ^= (y >> i & 1) * (static_cast<unsigned>(x) << i);
  for (int i = 14; i >= 8; --i) sum ^= (sum >> i & 1) * (0x11bu << (i - 8));
  return static_cast<std::uint8_t>(sum);
}

// Section 5.1.1: the inverse, and an affine map.
inline const std::uint8_t* sbox() {
  static std::uint8_t table[256];
  if (table[0]) return table;
  for (unsigned x = 0; x < 256; ++x) {
    unsigned inverse = 0;
    while (x && times(static_cast<std::uint8_t>(x), static_cast<std::uint8_t>(inverse)) != 1) ++inverse;
    unsigned y = 0;
    for (int i = 0; i < 5; ++i) y ^= (inverse << i | inverse >> (8 - i)) & 255;
    table[x] = static_cast<std::uint8_t>(y ^ 0x63);
  }
  return table;
}

// AES-128 of one block.
class Aes {
 public:
  explicit Aes(const std::uint8_t* key) {
    std::memcpy(keys_, key, 16);
    std::uint8_t constant = 1;
    for (int i = 16; i < 176; i += 4) {
      std::uint8_t word[4];
      std::memcpy(word, keys_ + i - 4, 4);
      if (i % 16 == 0) {
        const std::uint8_t first = word[0];
        for (int j = 0; j < 3; ++j) word[j] = sbox()[word[j + 1]];
        word[3] = sbox()[first];
        word[0] ^= constant;
        constant = times(constant, 2);
      }
      for (int j = 0; j < 4; ++j) keys_[i + j] = keys_[i + j - 16] ^ word[j];
    }
  }

  void encrypt(const std::uint8_t* in, std::uint8_t* out) const {
    std::uint8_t s[16];  // column by column
    for (int i = 0; i < 16; ++i) s[i] = in[i] ^ keys_[i];
    for (int round = 1; round <= 10; ++round) {
      std::uint8_t t[16];
      for (int i = 0; i < 16; ++i) t[i] = sbox()[s[(i + 4 * (i % 4)) % 16]];
      for (int i = 0; i < 16; ++i) {
        const std::uint8_t* column = t + i / 4 * 4;
        const std::uint8_t b = column[(i + 1) % 4], c = column[(i + 2) % 4], d = column[(i + 3) % 4];
        s[i] = (round < 10 ? times(t[i], 2) ^ times(b, 3) ^ c ^ d : t[i]) ^ keys_[16 * round + i];
      }
    }
    std::memcpy(out, s, 16);
  }

 private:
  std::uint8_t keys_[176];
};

// Bytes of the counter stream from a block on.
inline Bytes stream(const std::uint8_t* key, U first_block, std::size_t blocks) {
  const Aes aes(key);
  Bytes out(16 * blocks);
  for (std::size_t j = 0; j < blocks; ++j) {
    std::uint8_t counter[16] = {};
    for (int i = 0; i < 8; ++i) counter[15 - i] = static_cast<std::uint8_t>((first_block + j) >> (8 * i));
    aes.encrypt(counter, &out[16 * j]);
  }
  return out;
}

inline U word_of(const std::uint8_t* bytes) {
  U word = 0;
  for (int i = 0; i < 8; ++i) word |= static_cast<U>(bytes[i]) << (8 * i);
  return word;
}

// pi(pi(x) ^ t) ^ pi(x), the tweak into the first eight bytes.
inline void hash(const Aes& pi, const std::uint8_t* x, U tweak, std::uint8_t* out) {
  std::uint8_t first[16], second[16];
  pi.encrypt(x, first);
  for (int i = 0; i < 16; ++i) second[i] = first[i] ^ static_cast<std::uint8_t>(i < 8 ? tweak >> (8 * i) : 0);
  pi.encrypt(second, out);
  for (int i = 0; i < 16; ++i) out[i] ^= first[i];
}

inline U mul(U a, U b, U q) { return static_cast<U>(static_cast<unsigned __int128>(a) * b % q); }
inline U add(U a, U b, U q) { return static_cast<U>((static_cast<unsigned __int128>(a) + b) % q); }

inline U power(U a, U exponent, U q) {
  U result = 1 % q;
  for (; exponent; exponent >>= 1, a = mul(a, a, q))
    if (exponent & 1) result = mul(result, a, q);
  return result;
}

// x y modulo X^n + 1, coefficients modulo 2^64; y has as many coefficients as x or fewer.
inline Words times(const Words& x, const Words& y) {
  const std::size_t n = x.size();
  Words out(n);
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j < y.size(); ++j) {
      const U product = x[i] * y[j];
      if (i + j < n)
        out[i + j] += product;
      else
        out[i + j - n] -= product;
    }
  return out;
}

}  // namespace plain
}  // namespace aero
