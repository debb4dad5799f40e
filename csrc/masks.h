// Choices without a branch. Compilers like to make a branch of `?:`; of masks they make none, which the self-test sees
// to under valgrind.
#pragma once

#include <cstdint>

namespace aero {

// All ones where the condition holds, else zero.
static inline std::uint64_t ones_if(bool condition) { return std::uint64_t{0} - static_cast<std::uint64_t>(condition); }

}  // namespace aero
