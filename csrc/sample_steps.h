// The steps of sample.h as plain loops, compiled once for each instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

#include "sample.h"

namespace aero {

static inline Accepted accept_below(const std::uint64_t* words, std::size_t count, std::uint64_t mask, std::uint64_t q,
                                    std::uint64_t* out, std::size_t wanted) {
  Accepted used{0, 0};
  while (used.results < wanted && used.candidates < count) {
    const std::uint64_t candidate = words[used.candidates++] & mask;
    out[used.results] = candidate;
    used.results += candidate < q;
  }
  return used;
}

// b mod 3 for a byte: 171 / 512 is just above 1 / 3.
static inline std::int8_t centred_mod_3(std::uint8_t b) {
  return static_cast<std::int8_t>(b - 3 * ((b * 171u) >> 9) - 1);
}

static inline Accepted accept_ternary(const std::uint8_t* bytes, std::size_t count, std::int8_t* out,
                                      std::size_t wanted) {
  Accepted used{0, 0};
  while (used.results < wanted && used.candidates < count) {
    const std::uint8_t candidate = bytes[used.candidates++];
    out[used.results] = centred_mod_3(candidate);
    used.results += candidate != 255;
  }
  return used;
}

// How many bits are set.
static inline std::uint64_t ones(std::uint64_t x) {
  x -= (x >> 1) & 0x5555555555555555;
  x = (x & 0x3333333333333333) + ((x >> 2) & 0x3333333333333333);
  x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0f;
  x += x >> 8;
  x += x >> 16;
  return (x + (x >> 32)) & 0x7f;
}

static inline void binomial(const std::uint64_t* words, std::size_t count, int eta, std::int8_t* out) {
  // (ones of the low half) - (ones of the high half) = (ones of both, the high half inverted) - eta.
  const std::uint64_t used = ~std::uint64_t{0} >> (64 - 2 * eta), high = used ^ (used >> eta);
  for (std::size_t i = 0; i < count; ++i) out[i] = static_cast<std::int8_t>(ones((words[i] ^ high) & used) - eta);
}

// `lanes` words: several at once, so that compilers use vectors.
template <std::size_t lanes>
static inline void count_reached_by(const std::uint64_t* words, const std::uint64_t* thresholds, std::size_t size,
                                    std::int8_t* out) {
  std::uint64_t uniform[lanes], missed[lanes] = {};
  for (std::size_t i = 0; i < lanes; ++i) uniform[i] = words[i] >> 1;
  for (std::size_t j = 0; j < size; ++j)
    for (std::size_t i = 0; i < lanes; ++i) missed[i] += (uniform[i] - thresholds[j]) >> 63;
  for (std::size_t i = 0; i < lanes; ++i) {
    const std::uint64_t sign = 0 - (words[i] & 1);
    out[i] = static_cast<std::int8_t>(((size - missed[i]) ^ sign) - sign);
  }
}

static inline void count_reached(const std::uint64_t* words, std::size_t count, const std::uint64_t* thresholds,
                                 std::size_t size, std::int8_t* out) {
  std::size_t i = 0;
  for (; i + 16 <= count; i += 16) count_reached_by<16>(words + i, thresholds, size, out + i);
  for (; i < count; ++i) count_reached_by<1>(words + i, thresholds, size, out + i);
}

static inline void spread_bits(const std::uint8_t* bytes, std::size_t count, std::uint8_t* out) {
  for (std::size_t i = 0; i < count; ++i)
    for (int j = 0; j < 8; ++j) out[8 * i + j] = (bytes[i] >> j) & 1;
}

}  // namespace aero
