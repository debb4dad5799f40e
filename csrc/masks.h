// Choices without a branch. Compilers turn `?:` into one, and Clang also a mask that a comparison made; of a sign that was
// shifted they make none, which the self-test sees to under valgrind.
#pragma once

#include <cstdint>

namespace aero {

// All ones where x, as a signed number, is negative; else zero.
static inline std::uint64_t ones_if_negative(std::uint64_t x) {
  return static_cast<std::uint64_t>(static_cast<std::int64_t>(x) >> 63);
}

// All ones where x is zero, for x below 2^63; else zero.
static inline std::uint64_t ones_if_zero(std::uint64_t x) { return ones_if_negative(x - 1); }

}  // namespace aero
