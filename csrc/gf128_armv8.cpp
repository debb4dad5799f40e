// PMULL: three products of halves for each block (Karatsuba).
#include <arm_neon.h>

#include "gf128.h"

namespace aero {
namespace {

inline uint64x2_t multiply(std::uint64_t a, std::uint64_t b) {
  return vreinterpretq_u64_p128(vmull_p64(static_cast<poly64_t>(a), static_cast<poly64_t>(b)));
}

}  // namespace

void gf128_row_armv8(const std::uint8_t* x, const std::uint8_t* y, std::size_t n, Gf128Row& row) {
  uint64x2_t low = vdupq_n_u64(0), middle = low, high = low, picked = low;
  for (std::size_t j = 0; j < n; ++j) {
    const uint64x2_t a = vreinterpretq_u64_u8(vld1q_u8(x + 16 * j)), b = vreinterpretq_u64_u8(vld1q_u8(y + 16 * j));
    const std::uint64_t a0 = vgetq_lane_u64(a, 0), a1 = vgetq_lane_u64(a, 1);
    const std::uint64_t b0 = vgetq_lane_u64(b, 0), b1 = vgetq_lane_u64(b, 1);
    low = veorq_u64(low, multiply(a0, b0));
    high = veorq_u64(high, multiply(a1, b1));
    middle = veorq_u64(middle, multiply(a0 ^ a1, b0 ^ b1));
    picked = veorq_u64(picked, vandq_u64(a, vdupq_n_u64(std::uint64_t{0} - (b0 & 1))));
  }
  middle = veorq_u64(middle, veorq_u64(low, high));
  vst1q_u64(row.product, low);
  vst1q_u64(row.product + 2, high);
  row.product[1] ^= vgetq_lane_u64(middle, 0);
  row.product[2] ^= vgetq_lane_u64(middle, 1);
  vst1q_u64(row.picked, picked);
}

}  // namespace aero
