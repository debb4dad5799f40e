// Loops over residues, written once over either kind of lanes (modarith_lanes.h). All inputs and outputs are fully
// reduced unless a comment says otherwise.
#pragma once

#include "modarith_lanes.h"
#include "ntt_kernels.h"
#include "rlwe_steps.h"

namespace aero {
namespace {

template <typename L>
struct RlweKernels {
  using V = typename L::V;
  using U = std::uint64_t;
  using M = LaneModulus<L>;
  using Sums = typename L::Sums;
  using Sum = typename Sums::Sum;

  using Long = typename L::LongSums;
  using Scale = typename Long::Scale;

  // J results at once, kCount values of each: x [inner][b, a][8], w [inner][Stride][8], operands both.
  template <int J, int Stride>
  static void accumulate(const M& m, const Long& sums, const Scale (&scale)[2], const ProductsJob& job, const U* x,
                         const U* w, std::size_t out) {
    typename Long::Sum b_sum[J], a_sum[J];
    for (int j = 0; j < J; ++j) b_sum[j] = a_sum[j] = sums.zero();
    for (std::uint32_t k = 0; k < job.inner;) {
      const std::uint32_t left = job.inner - k, end = k + (left < sums.terms() ? left : sums.terms());
      for (; k < end; ++k, x += 16, w += 8 * Stride) {
        const V b = Long::load(x), a = Long::load(x + 8);
        for (int j = 0; j < J; ++j) {
          const V wj = Long::load(w + 8 * j);
          sums.multiply_add(b_sum[j], wj, b);
          sums.multiply_add(a_sum[j], wj, a);
        }
      }
      for (int j = 0; j < J; ++j) {
        sums.fold(b_sum[j]);
        sums.fold(a_sum[j]);
      }
    }
    for (int j = 0; j < J; ++j) {
      U *b = job.out_b + out + j * job.column_stride, *a = job.out_a + out + j * job.column_stride;
      const V b_found = sums.finish(b_sum[j], scale[0]), a_found = sums.finish(a_sum[j], scale[1]);
      L::store(b, job.add ? m.add(L::load(b), b_found) : b_found);
      L::store(a, job.add ? m.add(L::load(a), a_found) : a_found);
    }
  }

  // Runs of 8 values from `first` on, with the transforms w [runs][inner][Stride][8] of columns `column` to column + J - 1.
  template <int J, int Stride>
  static void accumulate_runs(const ProductsJob& job, std::uint32_t column, std::uint32_t first, std::uint32_t runs,
                              const U* w) {
    constexpr int kAtOnce = J < L::kColumns ? J : L::kColumns;
    const U q = job.ntt->q;
    const M m(q);
    const Long sums(q);
    const Scale scale[2] = {Long::scale(job.scale_b, q), Long::scale(job.scale_a, q)};
    const std::size_t x_row = std::size_t{16} * job.x_inner;
    for (std::uint32_t v = 0; v < runs; ++v, w += std::size_t{8} * Stride * job.inner)
      for (std::uint32_t row = 0; row < job.row_tiles; ++row)
        for (int lane = 0; lane < 8; lane += L::kCount)
          for (int j = 0; j < J; j += kAtOnce)
            accumulate<kAtOnce, Stride>(
                m, sums, scale, job, job.x + ((first + v) * std::size_t{job.row_tiles} + row) * x_row + lane, w + 8 * j + lane,
                row * job.row_stride + (column + j) * job.column_stride + 8 * (first + v) + lane);
  }

  // The part of the transforms of columns `column` to column + J - 1 that comes from `node`, to w.
  template <int J>
  static void transform_columns(const Transform<L>& t, const ProductsJob& job, std::uint32_t column,
                                std::uint32_t node, U* w) {
    for (std::uint32_t k = 0; k < job.inner; ++k)
      for (int j = 0; j < J; ++j)
        t.template forward_block<true, true>(job.weights + ((column + j) * std::size_t{job.inner} + k) * job.front,
                                             job.block, job.front, node, w + 8 * (k * std::size_t{J} + j),
                                             std::size_t{8} * J * job.inner);
  }

  static void products(const ProductsJob& job) {
    const Transform<L> t(*job.ntt);
    const std::uint32_t n = job.ntt->n;
    if (job.prepared) {
      const std::size_t four = std::size_t{4} * n * job.inner;  // words of four columns
      std::uint32_t c = 0;
      for (; c + 4 <= job.columns; c += 4)
        accumulate_runs<4, 4>(job, c, 0, n / 8, job.prepared + c / 4 * four);
      for (; c < job.columns; ++c)
        accumulate_runs<1, 4>(job, c, 0, n / 8, job.prepared + c / 4 * four + 8 * (c % 4));
      return;
    }
    // Some columns at a time so that their coefficients stay in the cache while the outer loop walks the transform.
    const std::uint32_t some = kColumnsAtOnce, runs = job.front / 8;
    for (std::uint32_t c0 = 0; c0 < job.columns; c0 += some)
      for (std::uint32_t i = 0; i < n / job.front; ++i) {
        const std::uint32_t end = c0 + some < job.columns ? c0 + some : job.columns, node = n / job.front + i;
        std::uint32_t c = c0;
        for (; c + 4 <= end; c += 4) {
          transform_columns<4>(t, job, c, node, job.transforms);
          accumulate_runs<4, 4>(job, c, i * runs, runs, job.transforms);
        }
        for (; c < end; ++c) {
          transform_columns<1>(t, job, c, node, job.transforms);
          accumulate_runs<1, 1>(job, c, i * runs, runs, job.transforms);
        }
      }
  }

  // Residues in runs of 8, as operands of products, each run `stride` words after the one before it.
  static void operands(U q, std::uint32_t n, const U* in, U* out, std::size_t stride) {
    for (std::uint32_t v = 0; v < n / 8; ++v, in += 8, out += stride)
      for (int lane = 0; lane < 8; lane += L::kCount) Long::hold_operand(q, in + lane, out + lane);
  }

  // Numbers of either sign as residues: x + 2^63 = h 2^32 + l. count: a multiple of 8.
  static void residues(U q, std::size_t count, const std::int64_t* in, U* out) {
    const M m(q);
    const Factor one = factor(1, q), upper = factor((U{1} << 32) % q, q);
    const V minus = L::set(q - (U{1} << 63) % q);
    for (std::size_t i = 0; i < count; i += L::kCount) {
      const V low = m.mul_lazy(L::load_low(in + i), one), high = m.mul_lazy(L::load_high(in + i), upper);
      L::store(out + i, m.full(L::add(m.halve(L::add(low, high)), minus)));
    }
  }
  // Small numbers of either sign as residues; and added to residues.
  static void small(U q, std::uint32_t n, const std::int8_t* in, U* out) {
    const M m(q);
    for (std::uint32_t i = 0; i < n; i += L::kCount) L::store(out + i, L::wrap(L::load_small(in + i), m.q));
  }
  static void add_small(U q, std::uint32_t n, const std::int8_t* in, U* sum) {
    const M m(q);
    for (std::uint32_t i = 0; i < n; i += L::kCount)
      L::store(sum + i, m.add(L::load(sum + i), L::wrap(L::load_small(in + i), m.q)));
  }
  static U key_factor(U q) { return Sums::key_factor(q); }
  // (x, y) -> (x + w y, x - w y), the same eight of w [n / run][8] over and over for `run` values
  static void split(U q, std::uint32_t n, std::uint32_t run, U* x, const U* y, const U* w, const U* w_q, U* difference) {
    const M m(q);
    for (std::uint32_t first = 0; first < n; first += run, w += 8, w_q += 8)
      for (std::uint32_t lane = 0; lane < 8; lane += L::kCount) {
        const V wi = L::load(w + lane), quotient = L::load_quotient(w_q + lane);
        for (std::uint32_t i = first + lane; i < first + run; i += 8) {
          const V wy = m.once(m.mul_lazy(L::load(y + i), wi, quotient));
          const V xi = L::load(x + i);
          L::store(x + i, m.add(xi, wy));
          L::store(difference + i, m.sub(xi, wy));
        }
      }
  }
  static void twice(U q, std::uint32_t n, U* x) {
    const M m(q);
    for (std::uint32_t i = 0; i < n; i += L::kCount) L::store(x + i, m.add(L::load(x + i), L::load(x + i)));
  }
  static void permute(std::uint32_t n, const U* in, const std::uint32_t* permutation, U* out) {
    for (std::uint32_t i = 0; i < n; i += L::kCount) L::store(out + i, L::gather(in, permutation + i));
  }
  static void permute_add(U q, std::uint32_t n, const U* in, const std::uint32_t* permutation, U* sum) {
    const M m(q);
    for (std::uint32_t i = 0; i < n; i += L::kCount)
      L::store(sum + i, m.add(L::load(sum + i), L::gather(in, permutation + i)));
  }
  // The representative between -p/2 and p/2 of a residue modulo p, modulo q. Needs p/2 < q.
  static void lift(U p, U q, std::uint32_t n, const U* in, U* out) {
    const V half = L::set(p / 2), shift = L::set(q - p);
    for (std::uint32_t i = 0; i < n; i += L::kCount) {
      const V x = L::load(in + i);
      L::store(out + i, L::add(x, L::above(x, half, shift)));
    }
  }
  // b += digits . (the key's b), a = digits . (its a): count digits of n, key [n / 8][count][b, a][8], each times key_factor.
  static void switch_key(U q, std::uint32_t n, std::size_t count, const U* const* digits, const U* key,
                         U* b, U* a) {
    const M m(q);
    for (std::uint32_t run = 0; run < n; run += 8, key += 16 * count)
      for (std::uint32_t lane = 0; lane < 8; lane += L::kCount) {
        const std::uint32_t i = run + lane;
        const U* own = key + lane;
        Sum b_sum, a_sum;
        for (std::size_t d = 0; d < count; ++d, own += 16) {
          const V digit = L::load(digits[d] + i);
          Sums::multiply_add(m, b_sum, digit, L::load(own));
          Sums::multiply_add(m, a_sum, digit, L::load(own + 8));
        }
        L::store(b + i, m.add(L::load(b + i), Sums::whole(m, b_sum)));
        L::store(a + i, Sums::whole(m, a_sum));
      }
  }
  // sum += x - c y
  static void add_difference(U q, std::uint32_t n, const U* x, const U* y, Factor c, U* sum) {
    const M m(q);
    for (std::uint32_t i = 0; i < n; i += L::kCount) {
      const V d = m.sub(L::load(x + i), m.mul(L::load(y + i), c));
      L::store(sum + i, m.add(L::load(sum + i), d));
    }
  }
  // sum += c x y, given c, c 2^52, c 2^104
  static void add_product(U q, std::uint32_t n, const U* x, const U* y, const Factor (&c)[3], U* sum) {
    const M m(q);
    const auto scale = Sums::scale(c, q);
    for (std::uint32_t i = 0; i < n; i += L::kCount) {
      Sum product;
      Sums::multiply_add(m, product, L::load(x + i), L::load(y + i));
      L::store(sum + i, m.add(L::load(sum + i), Sums::finish(m, product, scale)));
    }
  }
};

template <typename L>
constexpr RlweSteps rlwe_steps() {
  using K = RlweKernels<L>;
  return {K::products, K::operands, K::residues, K::small, K::add_small, K::key_factor, K::split, K::twice, K::permute, K::permute_add, K::lift, K::switch_key, K::add_difference, K::add_product};
}

}  // namespace
}  // namespace aero
