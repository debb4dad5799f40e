// Powers of two in a prime field, for one party's share of an exponent.
#pragma once

#include <cstddef>
#include <cstdint>

namespace aero {

constexpr int kExponentBits = 13;       // 2 has the order 2^13
constexpr int kMaxMantissaBits = 16;    // a mantissa moved by 31 stays below 2^50
constexpr int kMaxFractionBits = 32;

// out[i] = 2^e m mod p for exponents[i] = e 2^fraction_bits + t, e the 13 bits above the fraction (higher ones are not
// looked at), and m = 2^(t / 2^fraction_bits) times 2^mantissa_bits, rounded as the polynomial of field_power.cpp says.
// p: an odd prime below 2^51 modulo which 2^(2^13) = 1. Constant time: no branch and no address depends on an exponent.
void field_power(const std::uint64_t* exponents, std::size_t n, int fraction_bits, int mantissa_bits, std::uint64_t p,
                 std::uint64_t* out);

}  // namespace aero
