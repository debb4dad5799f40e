// The blocking of a matrix product, around a tile that some instruction set multiplies in registers.
//
// A block of b, kDepth x kWidth, is copied into panels of Tile::cols columns, and for each Tile::rows rows of a a panel
// is copied too, so that the tile reads both in order. Beside each word w the panels hold Tile::companion(w), whatever
// the tile wants to have prepared once rather than in its inner loop.
#pragma once

#include <cstddef>
#include <cstdint>

#include "ring.h"

namespace aero {
namespace {

constexpr std::size_t kDepth = 256, kWidth = 128;

// `depth` steps of `from`, each of `used` words `stride` apart and the steps `step` apart, to `total` words and then
// their `total` companions; the words beyond `used` are zero.
template <typename Tile>
inline void copy_panel(const std::uint64_t* from, std::size_t step, std::size_t stride, std::size_t depth,
                       std::size_t used, std::size_t total, std::uint64_t* panel) {
  for (std::size_t d = 0; d < depth; ++d, from += step, panel += 2 * total)
    for (std::size_t i = 0; i < total; ++i) {
      const std::uint64_t word = i < used ? from[i * stride] : 0;
      panel[i] = word;
      panel[total + i] = Tile::companion(word);
    }
}

// The same for rows of Tile::cols words, of which `used` are there.
template <typename Tile>
inline void copy_row_panel(const std::uint64_t* from, std::size_t step, std::size_t depth, std::size_t used,
                           std::uint64_t* panel) {
  constexpr std::size_t cols = Tile::cols;
  if (used < cols) return copy_panel<Tile>(from, step, 1, depth, used, cols, panel);
  for (std::size_t d = 0; d < depth; ++d, from += step, panel += 2 * cols)
    for (std::size_t i = 0; i < cols; ++i) {
      panel[i] = from[i];
      panel[cols + i] = Tile::companion(from[i]);
    }
}

// For few rows, where copying b would be most of the work: row by row of b.
inline void stream_multiply_add(const std::uint64_t* a, const std::uint64_t* b, std::uint64_t* out, std::size_t m,
                                std::size_t k, std::size_t n) {
  for (std::size_t i = 0; i < m; ++i)
    for (std::size_t d = 0; d < k; ++d) {
      const std::uint64_t factor = a[i * k + d];
      for (std::size_t j = 0; j < n; ++j) out[i * n + j] += factor * b[d * n + j];
    }
}

// Tile::multiply for the number of rows at hand.
template <typename Tile, int Rows = Tile::rows>
inline void multiply_rows(int rows, const std::uint64_t* a, const std::uint64_t* b, std::size_t depth,
                          std::uint64_t* sums) {
  if (rows == Rows)
    Tile::template multiply<Rows>(a, b, depth, sums);
  else if constexpr (Rows > 1)
    multiply_rows<Tile, Rows - 1>(rows, a, b, depth, sums);
}

template <typename Tile>
inline void blocked_multiply_add(const std::uint64_t* a, const std::uint64_t* b, std::uint64_t* out, std::size_t m,
                                 std::size_t k, std::size_t n, std::uint64_t* scratch) {
  constexpr std::size_t rows = Tile::rows, cols = Tile::cols;
  if (m <= 2) return stream_multiply_add(a, b, out, m, k, n);
  static_assert(kWidth % cols == 0 && 2 * kDepth * (kWidth + rows) <= kRingScratch, "the panels fit the scratch");
  std::uint64_t* const b_panels = scratch;
  std::uint64_t* const a_panel = scratch + 2 * kDepth * kWidth;
  alignas(64) std::uint64_t sums[rows * cols];
  for (std::size_t k0 = 0; k0 < k; k0 += kDepth) {
    const std::size_t depth = k - k0 < kDepth ? k - k0 : kDepth;
    for (std::size_t n0 = 0; n0 < n; n0 += kWidth) {
      const std::size_t width = n - n0 < kWidth ? n - n0 : kWidth;
      for (std::size_t j = 0; j < width; j += cols)
        copy_row_panel<Tile>(b + k0 * n + n0 + j, n, depth, width - j < cols ? width - j : cols,
                             b_panels + 2 * depth * j);
      for (std::size_t i = 0; i < m; i += rows) {
        const std::size_t height = m - i < rows ? m - i : rows;
        copy_panel<Tile>(a + i * k + k0, 1, k, depth, height, height, a_panel);
        for (std::size_t j = 0; j < width; j += cols) {
          multiply_rows<Tile>(static_cast<int>(height), a_panel, b_panels + 2 * depth * j, depth, sums);
          const std::size_t reach = width - j < cols ? width - j : cols;
          for (std::size_t r = 0; r < height; ++r)
            for (std::size_t c = 0; c < reach; ++c) out[(i + r) * n + n0 + j + c] += sums[r * cols + c];
        }
      }
    }
  }
}

}  // namespace
}  // namespace aero
