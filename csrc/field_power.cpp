#include "field_power.h"

#include "modarith.h"

namespace aero {
namespace {

// 2^t on [0, 1] in 30 fractional bits, lowest power first: interpolates at Chebyshev nodes, off by less than 2^-27.
constexpr std::uint64_t kCoefficients[] = {1073741824, 744261126, 257941089, 59598342, 10322487, 1441968, 153573, 23239};
constexpr int kDegree = 7, kPolynomialBits = 30;
constexpr int kShifted = 5;  // exponent bits that are done by a shift; the others take one product each

}  // namespace

void field_power(const std::uint64_t* exponents, std::size_t n, int fraction_bits, int mantissa_bits, std::uint64_t p,
                 std::uint64_t* out) {
  const Factor one = factor(1, p);
  Factor step[kExponentBits - kShifted];  // 2^(2^j)
  for (int j = 0; j < kExponentBits - kShifted; ++j) step[j] = factor(pow_mod(2, std::uint64_t{1} << (kShifted + j), p), p);
  const std::uint64_t fraction_mask = (std::uint64_t{1} << fraction_bits) - 1;
  const int dropped = kPolynomialBits - mantissa_bits;
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint64_t t = (exponents[i] & fraction_mask) << (kMaxFractionBits - fraction_bits);
    const std::uint64_t e = exponents[i] >> fraction_bits;
    std::uint64_t power = kCoefficients[kDegree];
    for (int k = kDegree - 1; k >= 0; --k) power = kCoefficients[k] + ((power * t) >> 32);
    const std::uint64_t mantissa = (power + (std::uint64_t{1} << (dropped - 1))) >> dropped;
    std::uint64_t result = mantissa << (e & ((1 << kShifted) - 1));  // below 2^48
    for (int j = 0; j < kExponentBits - kShifted; ++j) {
      const std::uint64_t taken = std::uint64_t{0} - ((e >> (kShifted + j)) & 1);
      const Factor by{(step[j].value & taken) | (one.value & ~taken), (step[j].quotient & taken) | (one.quotient & ~taken)};
      const auto estimate = static_cast<std::uint64_t>((static_cast<unsigned __int128>(result) * by.quotient) >> kWordBits);
      result = result * by.value - estimate * p;  // below 2p, and 2p below 2^52
    }
    out[i] = once_mod(result, p);
  }
}

}  // namespace aero
