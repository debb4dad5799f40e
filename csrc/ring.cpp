#include "ring.h"

#include <cstring>
#include <memory>

#include "dispatch.h"
#include "ring_blocks.h"

namespace aero {
namespace {

struct PortableTile {
  static constexpr int rows = 4, cols = 4;
  static std::uint64_t companion(std::uint64_t) { return 0; }

  template <int Rows>
  static void multiply(const std::uint64_t* a, const std::uint64_t* b, std::size_t depth, std::uint64_t* sums) {
    std::uint64_t sum[Rows][cols] = {};
    for (std::size_t d = 0; d < depth; ++d, a += 2 * Rows, b += 2 * cols)
      for (int r = 0; r < Rows; ++r)
        for (int c = 0; c < cols; ++c) sum[r][c] += a[r] * b[c];
    std::memcpy(sums, sum, sizeof sum);
  }
};

void multiply_add(const std::uint64_t* a, const std::uint64_t* b, std::uint64_t* out, std::size_t m, std::size_t k,
                  std::size_t n, std::uint64_t* scratch) {
#if AERO_X86
  if (level() >= Level::avx512) return ring_multiply_add_avx512(a, b, out, m, k, n, scratch);
  if (level() >= Level::avx2) return ring_multiply_add_avx2(a, b, out, m, k, n, scratch);
#endif
  blocked_multiply_add<PortableTile>(a, b, out, m, k, n, scratch);
}

}  // namespace

void ring_matmul(const std::uint64_t* a, std::size_t a_step, const std::uint64_t* b, std::size_t b_step,
                 std::uint64_t* out, std::size_t batch, std::size_t m, std::size_t k, std::size_t n) {
  struct alignas(64) Scratch {
    std::uint64_t words[kRingScratch];
  };
  const std::unique_ptr<Scratch> scratch(new Scratch);
  std::memset(out, 0, 8 * batch * m * n);
  for (std::size_t i = 0; i < batch; ++i)
    multiply_add(a + i * a_step, b + i * b_step, out + i * m * n, m, k, n, scratch->words);
}

}  // namespace aero
