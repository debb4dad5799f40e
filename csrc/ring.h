// Matrix products modulo 2^64.
#pragma once

#include <cstddef>
#include <cstdint>

namespace aero {

// out[i] = a[i] b[i] for `batch` row-major pairs of m x k and k x n; `a_step` and `b_step` words lie between one
// matrix and the next (0 repeats the same one), m n words between the results. `out` overlaps neither operand.
void ring_matmul(const std::uint64_t* a, std::size_t a_step, const std::uint64_t* b, std::size_t b_step,
                 std::uint64_t* out, std::size_t batch, std::size_t m, std::size_t k, std::size_t n);

// One product, added to what `out` holds. `scratch` has kRingScratch words and starts at a multiple of 64 bytes.
constexpr std::size_t kRingScratch = 2 * 256 * (128 + 8);
void ring_multiply_add_avx2(const std::uint64_t* a, const std::uint64_t* b, std::uint64_t* out, std::size_t m,
                            std::size_t k, std::size_t n, std::uint64_t* scratch);
void ring_multiply_add_avx512(const std::uint64_t* a, const std::uint64_t* b, std::uint64_t* out, std::size_t m,
                              std::size_t k, std::size_t n, std::uint64_t* scratch);

}  // namespace aero
