// The negacyclic number-theoretic transform: polynomials modulo X^n + 1 and a prime q = 1 mod 2n, q < 2^51, as their
// values at the odd powers of psi, a primitive 2n-th root of unity.
//
// The order of the values is part of the wire format: `exponent(p)` is the power of psi whose value stands at position
// p. It is bit-reversed order with each run of 64 transposed as an 8 x 8 matrix, which saves the vector code a shuffle.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "modarith.h"

namespace aero {

constexpr std::uint32_t kRun = 64;  // coefficients that the last six steps of a transform combine

// `root[i]` is psi^bitreverse(i): step k of the transform uses indices 2^k to 2^(k+1) - 1, so the children of index i are
// 2i and 2i + 1. `tail` repeats the roots of the last three steps in the order in which a run of 64 needs them: 7 pairs of
// 8 roots and their 8 quotients.
template <typename Number>
struct Roots {
  const Number *root = nullptr, *quotient = nullptr, *tail = nullptr;
};

// What the kernels see of a transform: its roots and those of the inverse, as words with the quotients of modarith.h, and
// as doubles w between -q/2 and q/2 with w / q.
struct NttView {
  std::uint32_t n = 0;
  std::uint64_t q = 0;
  Roots<std::uint64_t> words, inverse_words;
  Roots<double> doubles, inverse_doubles;
  Factor inverse_n, inverse_n_root;  // 1/n, and 1/n times root 1 of the inverse
};

class Ntt {
 public:
  // n is a power of two from 128 to 32768. Throws std::invalid_argument unless q is a prime below 2^51, 1 mod 2n.
  Ntt(std::uint32_t n, std::uint64_t q);

  const NttView& view() const { return view_; }
  std::uint32_t n() const { return view_.n; }
  std::uint64_t q() const { return view_.q; }
  std::uint64_t psi() const { return psi_; }
  // The odd exponent e, below 2n, of the value psi^e at position p.
  std::uint32_t exponent(std::uint32_t p) const { return exponents_[p]; }
  // Where the value at psi^e stands, for odd e below 2n.
  std::uint32_t position(std::uint32_t e) const { return positions_[e / 2]; }

  // In place, `count` polynomials. Coefficients below 2q in; below q out.
  void forward(std::uint64_t* a, std::size_t count) const;
  // The same for polynomials of which only the first `front` coefficients (a power of two, 64 to n) may be non-zero:
  // reads in[count][front], writes out[count][n].
  void forward_front(const std::uint64_t* in, std::uint32_t front, std::uint64_t* out, std::size_t count) const;
  // In place. Values below 2q in; coefficients below q out.
  void inverse(std::uint64_t* a, std::size_t count) const;

 private:
  NttView view_;
  std::uint64_t psi_ = 0;
  std::vector<std::uint64_t> tables_;
  std::vector<double> double_tables_;
  std::vector<std::uint32_t> exponents_, positions_;
};

bool is_prime(std::uint64_t n);

// The kernels themselves (ntt.cpp, ntt_avx2.cpp, ntt_avx512.cpp). `block` is the part of a forward transform that yields the n0
// values from position (node - n/n0) n0 on, from the n0 coefficients at `a`: all of it when n0 = n and node = 1.
void ntt_forward_portable(const NttView&, std::uint64_t* a);
void ntt_inverse_portable(const NttView&, std::uint64_t* a);
void ntt_front_portable(const NttView&, const std::uint64_t* in, std::uint32_t front, std::uint64_t* out);
void ntt_forward_avx2(const NttView&, std::uint64_t* a);
void ntt_inverse_avx2(const NttView&, std::uint64_t* a);
void ntt_front_avx2(const NttView&, const std::uint64_t* in, std::uint32_t front, std::uint64_t* out);
void ntt_forward_avx512(const NttView&, std::uint64_t* a);
void ntt_inverse_avx512(const NttView&, std::uint64_t* a);
void ntt_front_avx512(const NttView&, const std::uint64_t* in, std::uint32_t front, std::uint64_t* out);

}  // namespace aero
