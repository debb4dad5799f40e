// The loops under slots.cpp, one table of them per instruction set. slots_kernels.h defines them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "modarith.h"

namespace aero {

constexpr std::size_t kMaxSlotPrimes = 4;

// Takes integers t between -bound and bound to t c modulo q. `offset` is a multiple of q, at least bound, and
// offset + bound + q < 2^52.
struct SlotSpread {
  std::uint64_t q = 0, offset = 0;
  Factor c;
};

// Takes a coefficient m below p to t = h - (Q m + h mod p), h = (p - 1)/2: then round(Q m / p) = t / p modulo every
// prime of Q, and -h <= t <= h.
struct SlotScale {
  std::uint64_t p = 0, half = 0;
  Factor q_mod_p;
};

// Takes x modulo the product of `count` primes to round(p x / product) modulo p.
//
// With r_i = x p / (product / q_i) modulo q_i, p x / product = sum r_i / q_i modulo p, up to integers k_i with
// k_i q_i + r_i = 0 modulo p: so it is sum (-r_i / q_i mod p) + round(sum r_i / q_i). The fractions r_i / q_i are
// taken to 100 bits.
struct SlotDecoder {
  struct Prime {
    std::uint64_t q = 0;
    Factor to_rest;           // p / (product / q) modulo q
    Factor to_whole;          // -1 / q modulo p
    std::uint64_t up = 0;     // a power of two with 2^50 < q up < 2^51
    std::uint64_t inverse = 0;  // floor(2^102 / (q up))
  };
  std::uint64_t p = 0;
  std::size_t count = 0;
  Prime primes[kMaxSlotPrimes];
};

struct SlotSteps {
  // x below p to t, as 64-bit two's complement: see SlotScale; and to the representative between -p/2 and p/2
  void (*scale)(const SlotScale&, std::uint32_t n, const std::uint64_t* x, std::uint64_t* t);
  void (*centre)(std::uint64_t p, std::uint32_t n, const std::uint64_t* x, std::uint64_t* t);
  void (*spread)(const SlotSpread&, std::uint32_t n, const std::uint64_t* t, std::uint64_t* out);
  // (x - t) c modulo q
  void (*drop)(const SlotSpread&, std::uint32_t n, const std::uint64_t* x, const std::uint64_t* t, std::uint64_t* out);
  // residue i of the input begins at x + i stride
  void (*decode)(const SlotDecoder&, std::uint32_t n, const std::uint64_t* x, std::size_t stride, std::uint64_t* out);
};

extern const SlotSteps kSlotStepsAvx2;
extern const SlotSteps kSlotStepsAvx512;

}  // namespace aero
