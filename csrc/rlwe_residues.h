// Residue arithmetic that rlwe.cpp and rlwe_products.cpp share. Times depend on the moduli, not on the residues.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "modarith.h"
#include "rlwe.h"
#include "rlwe_steps.h"

namespace aero {

// The loops for the instruction set in use.
const RlweSteps& rlwe_steps_in_use();

inline int log2_exact(std::size_t x) {
  int k = 0;
  while ((std::size_t{1} << k) < x) ++k;
  return k;
}

inline std::uint64_t add_mod(std::uint64_t a, std::uint64_t b, std::uint64_t q) {
  return once_mod(a + b, q);
}

// x mod q for any 64-bit x, without a division or a branch that depends on x.
struct Reducer {
  std::uint64_t q, inverse;
  explicit Reducer(std::uint64_t modulus)
      : q(modulus), inverse(static_cast<std::uint64_t>((static_cast<unsigned __int128>(1) << 64) / modulus)) {}
  std::uint64_t operator()(std::uint64_t x) const {
    const auto estimate = static_cast<std::uint64_t>((static_cast<unsigned __int128>(x) * inverse) >> 64);
    return once_mod(x - estimate * q, q);
  }
  std::uint64_t of_signed(std::int64_t x) const {
    const auto negative = static_cast<std::uint64_t>(x >> 63);
    const std::uint64_t r = (*this)((static_cast<std::uint64_t>(x) ^ negative) - negative);
    return once_mod(r ^ ((r ^ (q - r)) & negative), q);  // q - r is q where r is zero
  }
};

// c, c 2^52, c 2^104 modulo q: how the sums of products are multiplied by a constant (rlwe_kernels.h).
void multiples(std::uint64_t c, std::uint64_t q, Factor (&out)[3]);

// The message's place in the ciphertext: round(Q m / 2^bits) modulo each prime.
class Scale {
 public:
  Scale(const Lattice& lattice, int bits);
  // Q m + 2^(bits-1) = 2^bits round(Q m / 2^bits) + rest, and Q = 0 modulo every prime.
  std::uint64_t operator()(std::uint64_t message, std::size_t i) const {
    const std::uint64_t rest = (big_q_ * (message & mask_) + half_) & mask_, q = reducers_[i].q;
    return mul_mod(add_mod(half_mod_[i], q - reducers_[i](rest), q), inverse_[i], q);
  }

 private:
  std::uint64_t mask_, half_, big_q_;  // Q modulo 2^64 is enough
  std::vector<Reducer> reducers_;
  std::vector<std::uint64_t> half_mod_;
  std::vector<Factor> inverse_;
};

// Where each value of a transform comes from under X -> X^(2^log_galois + 1).
std::vector<std::uint32_t> automorphism(const Ntt& ntt, int log_galois);

}  // namespace aero
