// Arithmetic modulo primes below 2^51, in the form that the lattice kernels share.
//
// A product with a constant w uses the constant's quotient w' = floor(w 2^52 / q) (Shoup; Harvey, "Faster arithmetic
// for number-theoretic transforms", 2014): for any x < 2^52, x w - floor(x w' / 2^52) q lies in [0, 2q). 52 bits,
// because the IFMA instructions multiply 52-bit words; the portable code does the same sums.
#pragma once

#include <cstdint>

#include "masks.h"

namespace aero {

constexpr int kWordBits = 52;
constexpr std::uint64_t kWordMask = (std::uint64_t{1} << kWordBits) - 1;
constexpr int kMaxPrimeBits = 51;   // 2q must fit a 52-bit word
constexpr int kLazyPrimeBits = 50;  // 4q fits one as well: fewer reductions (ntt_kernels.h)

// A constant multiplicand modulo q with its quotient.
struct Factor {
  std::uint64_t value = 0, quotient = 0;
};

static inline std::uint64_t mul_mod(std::uint64_t a, std::uint64_t b, std::uint64_t q) {
  return static_cast<std::uint64_t>(static_cast<unsigned __int128>(a) * b % q);
}

static inline std::uint64_t pow_mod(std::uint64_t a, std::uint64_t exponent, std::uint64_t q) {
  std::uint64_t result = 1 % q;
  for (a %= q; exponent; exponent >>= 1, a = mul_mod(a, a, q))
    if (exponent & 1) result = mul_mod(result, a, q);
  return result;
}

// The inverse of a modulo the prime q.
static inline std::uint64_t inverse_mod(std::uint64_t a, std::uint64_t q) { return pow_mod(a, q - 2, q); }

static inline Factor factor(std::uint64_t w, std::uint64_t q) {
  return {w, static_cast<std::uint64_t>((static_cast<unsigned __int128>(w) << kWordBits) / q)};
}

// The representative of x < q between -q/2 and q/2.
static inline double centred(std::uint64_t x, std::uint64_t q) {
  return static_cast<double>(static_cast<std::int64_t>(x - (q & ones_if_negative(q / 2 - x))));
}

// r mod q for r < 2q < 2^63.
static inline std::uint64_t once_mod(std::uint64_t r, std::uint64_t q) {
  const std::uint64_t less = r - q;
  return less + (q & ones_if_negative(less));
}

// x w mod q for any x < 2^52.
static inline std::uint64_t mul_mod(std::uint64_t x, Factor w, std::uint64_t q) {
  const auto estimate = static_cast<std::uint64_t>((static_cast<unsigned __int128>(x) * w.quotient) >> kWordBits);
  return once_mod(x * w.value - estimate * q, q);
}

}  // namespace aero
