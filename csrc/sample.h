// Sampling from a counter-mode stream (aes.h). Each function reads the stream from block `first_block` on, writes n
// results and returns the first block that it has not looked at, where the next call may begin. Rejection looks at
// candidates that are independent of the accepted ones, so its running time says nothing about the results.
#pragma once

#include <cstddef>
#include <cstdint>

#include "aes.h"

namespace aero {

// The stream itself: n bytes.
std::uint64_t sample_bytes(const RoundKeys& keys, std::uint64_t first_block, std::size_t n, std::uint8_t* out);

// Uniform in [0, 2^bits), 1 <= bits <= 64: one little-endian 64-bit word each, its low bits kept.
std::uint64_t sample_ring(const RoundKeys& keys, std::uint64_t first_block, std::size_t n, int bits,
                          std::uint64_t* out);

// Uniform in [0, q), q >= 1: words reduced to the bits of q - 1, those not below q rejected.
std::uint64_t sample_below(const RoundKeys& keys, std::uint64_t first_block, std::size_t n, std::uint64_t q,
                           std::uint64_t* out);

// Uniform in {-1, 0, 1}: bytes b, 255 rejected, (b mod 3) - 1.
std::uint64_t sample_ternary(const RoundKeys& keys, std::uint64_t first_block, std::size_t n, std::int8_t* out);

// Centred binomial, 1 <= eta <= 32: one word each, (ones among its low eta bits) - (ones among the next eta bits).
std::uint64_t sample_binomial(const RoundKeys& keys, std::uint64_t first_block, std::size_t n, int eta,
                              std::int8_t* out);

// A distribution of integers that is symmetric around zero, at most 127, by inversion: one word each, its lowest bit the
// sign, and the magnitude how many of the `size` thresholds, all below 2^63, the other 63 bits reach. All are compared.
std::uint64_t sample_table(const RoundKeys& keys, std::uint64_t first_block, std::size_t n,
                           const std::uint64_t* thresholds, std::size_t size, std::int8_t* out);

// Uniform in {0, 1}: the bits of the stream, lowest of each byte first.
std::uint64_t sample_bits(const RoundKeys& keys, std::uint64_t first_block, std::size_t n, std::uint8_t* out);

// Steps over one stretch of the stream, per instruction set.
// The accepting steps read `count` candidates, write at most `wanted` results, and say how many of each they used.
struct Accepted {
  std::size_t results, candidates;
};
struct SampleSteps {
  Accepted (*below)(const std::uint64_t* words, std::size_t count, std::uint64_t mask, std::uint64_t q,
                    std::uint64_t* out, std::size_t wanted);
  Accepted (*ternary)(const std::uint8_t* bytes, std::size_t count, std::int8_t* out, std::size_t wanted);
  void (*binomial)(const std::uint64_t* words, std::size_t count, int eta, std::int8_t* out);
  void (*table)(const std::uint64_t* words, std::size_t count, const std::uint64_t* thresholds, std::size_t size,
                std::int8_t* out);
  void (*bits)(const std::uint8_t* bytes, std::size_t count, std::uint8_t* out);  // whole bytes
};
extern const SampleSteps kSampleStepsAvx2;
extern const SampleSteps kSampleStepsAvx512;

}  // namespace aero
