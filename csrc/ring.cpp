#include "ring.h"

#include <algorithm>
#include <cstring>
#include <memory>

#include "dispatch.h"
#include "parallel.h"
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
  std::memset(out, 0, 8 * batch * m * n);
  // Pieces are runs of rows of one product, so long that copying b is little beside multiplying.
  constexpr std::size_t run = 24;
  const std::size_t runs = (m + run - 1) / run;
  in_parallel(batch * runs, run * k * n / 8, [&](std::size_t begin, std::size_t end) {
    const std::unique_ptr<Scratch> scratch(new Scratch);
    for (std::size_t i = begin; i < end;) {
      const std::size_t member = i / runs, last = std::min(end, (member + 1) * runs);
      const std::size_t row = (i - member * runs) * run, rows = std::min(m, (last - member * runs) * run) - row;
      multiply_add(a + member * a_step + row * k, b + member * b_step, out + (member * m + row) * n, rows, k, n,
                   scratch->words);
      i = last;
    }
  });
}

}  // namespace aero
