// The transform's steps over any kind of lanes (modarith_lanes.h), which say by `Steps` in what form and range values are
// held between steps.
#pragma once

#include "modarith_lanes.h"
#include "ntt.h"

namespace aero {
namespace {

template <typename L, bool Tight = false>
struct Transform {
  using V = typename L::V;
  using U = std::uint64_t;
  using Number = typename L::Number;
  using Steps = typename L::template Steps<Tight>;

  static constexpr int kParts = 8 / L::kCount;  // of eight values

  const NttView& t;
  const Steps s;

  explicit Transform(const NttView& view) : t(view), s(view) {}

  // `Log` forward steps of the sub-transform of n0 coefficients rooted at `node`, from `in`, which are `Words` or are held,
  // to `a`, where they are held.
  template <int Log, bool Words>
  void forward_pass(const U* in, U* a, std::uint32_t n0, std::uint32_t node) const {
    constexpr int R = 1 << Log;
    const std::uint32_t step = n0 >> Log;
    const Roots<Number>& roots = L::roots(t);
    V w[R], quotient[R];
    for (int i = 1; i < R; ++i) {  // i = 2^k + j: root j of the k-th step
      const int k = i >= 4 ? 2 : i >= 2 ? 1 : 0;
      w[i] = L::set_root(roots.root[(node << k) + i - (1 << k)]);
      quotient[i] = L::set_root(roots.quotient[(node << k) + i - (1 << k)]);
    }
    for (std::uint32_t j = 0; j < step; j += L::kCount) {
      V x[R];
      for (int r = 0; r < R; ++r) x[r] = Words ? L::load(in + r * step + j) : Steps::take(in + r * step + j);
      for (int k = 0; k < Log; ++k) {
        const int half = R >> (k + 1);
        for (int r = 0; r < R / 2; ++r) {
          const int group = r / half, lo = 2 * half * group + r % half;
          s.forward(x[lo], x[lo + half], w[(1 << k) + group], quotient[(1 << k) + group]);
        }
      }
      for (int r = 0; r < R; ++r) Steps::hold(a + r * step + j, s.settle(x[r]));
    }
  }

  // The last six steps: `in` has 64 coefficients, `node` is n/64 + the number of the run. Eight values at a time go to
  // out + r stride: as words, or as `Operands` of sums of products.
  template <bool Words, bool Operands>
  void forward_run(const U* in, std::uint32_t node, U* out, std::size_t stride) const {
    const Roots<Number>& roots = L::roots(t);
    V parts[kParts][8];
    for (int part = 0; part < kParts; ++part, in += L::kCount) {
      V(&x)[8] = parts[part];
      for (int r = 0; r < 8; ++r) x[r] = Words ? s.settle(L::load(in + 8 * r)) : Steps::take(in + 8 * r);
      for (int k = 0; k < 3; ++k) {
        const int half = 4 >> k;
        for (int r = 0; r < 4; ++r) {
          const int group = r / half, lo = 2 * half * group + r % half;
          const std::uint32_t i = (node << k) + group;
          s.forward(x[lo], x[lo + half], L::set_root(roots.root[i]), L::set_root(roots.quotient[i]));
        }
      }
    }
    L::transpose(parts);
    const Number* tail = roots.tail + std::size_t{112} * (node - t.n / kRun);
    for (int part = 0; part < kParts; ++part, tail += L::kCount, out += L::kCount) {
      V(&x)[8] = parts[part];
      for (int k = 0; k < 3; ++k) {
        const int first = (1 << k) - 1;
        const int half = 4 >> k;
        for (int r = 0; r < 4; ++r) {
          const int group = r / half, lo = 2 * half * group + r % half;
          const Number* w = tail + 16 * (first + group);
          s.forward(x[lo], x[lo + half], L::load_root(w), L::load_root(w + 8));
        }
      }
      for (int r = 0; r < 8; ++r)
        if (Operands)
          Steps::hold(out + r * stride, s.settle(x[r]));
        else
          L::store(out + r * stride, s.whole(x[r]));
    }
  }

  // The part of a forward transform that yields n0 values, from n0 coefficients, through `a`, which may be `in`; `out` and
  // `stride` as in forward_run.
  template <bool Words, bool Operands>
  void forward_block(const U* in, U* a, std::uint32_t n0, std::uint32_t node, U* out, std::size_t stride) const {
    if (n0 == kRun) return forward_run<Words, Operands>(in, node, out, stride);
    const std::uint32_t ratio = n0 / kRun;
    const int steps = ratio == 2 ? 1 : ratio == 4 || ratio == 16 ? 2 : 3;
    if (steps == 1) forward_pass<1, Words>(in, a, n0, node);
    if (steps == 2) forward_pass<2, Words>(in, a, n0, node);
    if (steps == 3) forward_pass<3, Words>(in, a, n0, node);
    const std::uint32_t part = n0 >> steps;
    for (std::uint32_t i = 0; i < (1u << steps); ++i)
      forward_block<false, Operands>(a + i * part, a + i * part, part, (node << steps) + i, out + i * (part / 8) * stride,
                                     stride);
  }

  template <int Log, bool Last>
  void inverse_pass(U* a, std::uint32_t n0, std::uint32_t node) const {
    constexpr int R = 1 << Log;
    const std::uint32_t step = n0 >> Log;
    const Roots<Number>& roots = L::inverse_roots(t);
    V w[R], quotient[R];
    for (int i = 1; i < R; ++i) {
      const int k = i >= 4 ? 2 : i >= 2 ? 1 : 0;
      w[i] = L::set_root(roots.root[(node << k) + i - (1 << k)]);
      quotient[i] = L::set_root(roots.quotient[(node << k) + i - (1 << k)]);
    }
    for (std::uint32_t j = 0; j < step; j += L::kCount) {
      V x[R];
      for (int r = 0; r < R; ++r) x[r] = Steps::take(a + r * step + j);
      for (int k = Log - 1; k >= 0; --k) {
        const int half = R >> (k + 1);
        for (int r = 0; r < R / 2; ++r) {
          const int group = r / half, lo = 2 * half * group + r % half;
          if (Last && k == 0)
            s.last_inverse(x[lo], x[lo + half]);
          else
            s.inverse(x[lo], x[lo + half], w[(1 << k) + group], quotient[(1 << k) + group]);
        }
      }
      for (int r = 0; r < R; ++r)
        if (Last)
          L::store(a + r * step + j, x[r]);
        else
          Steps::hold(a + r * step + j, s.settle(x[r]));
    }
  }

  void inverse_run(U* a, std::uint32_t node) const {
    const Roots<Number>& roots = L::inverse_roots(t);
    V parts[kParts][8];
    const Number* tail = roots.tail + std::size_t{112} * (node - t.n / kRun);
    for (int part = 0; part < kParts; ++part, tail += L::kCount) {
      V(&x)[8] = parts[part];
      for (int r = 0; r < 8; ++r) x[r] = s.settle(L::load(a + 8 * r + part * L::kCount));
      for (int k = 2; k >= 0; --k) {
        const int first = (1 << k) - 1;
        const int half = 4 >> k;
        for (int r = 0; r < 4; ++r) {
          const int group = r / half, lo = 2 * half * group + r % half;
          const Number* w = tail + 16 * (first + group);
          s.inverse(x[lo], x[lo + half], L::load_root(w), L::load_root(w + 8));
        }
      }
      for (int r = 0; r < 8; ++r) x[r] = s.settle(x[r]);
    }
    L::transpose(parts);
    for (int part = 0; part < kParts; ++part, a += L::kCount) {
      V(&x)[8] = parts[part];
      for (int k = 2; k >= 0; --k) {
        const int half = 4 >> k;
        for (int r = 0; r < 4; ++r) {
          const int group = r / half, lo = 2 * half * group + r % half;
          const std::uint32_t i = (node << k) + group;
          s.inverse(x[lo], x[lo + half], L::set_root(roots.root[i]), L::set_root(roots.quotient[i]));
        }
      }
      for (int r = 0; r < 8; ++r) Steps::hold(a + 8 * r, s.settle(x[r]));
    }
  }

  void inverse_block(U* a, std::uint32_t n0, std::uint32_t node) const {
    if (n0 == kRun) return inverse_run(a, node);
    const std::uint32_t ratio = n0 / kRun;
    const int steps = ratio == 2 ? 1 : ratio == 4 || ratio == 16 ? 2 : 3;
    const std::uint32_t part = n0 >> steps;
    for (std::uint32_t i = 0; i < (1u << steps); ++i) inverse_block(a + i * part, part, (node << steps) + i);
    if (node == 1) {
      if (steps == 1) inverse_pass<1, true>(a, n0, node);
      if (steps == 2) inverse_pass<2, true>(a, n0, node);
      if (steps == 3) inverse_pass<3, true>(a, n0, node);
    } else {
      if (steps == 1) inverse_pass<1, false>(a, n0, node);
      if (steps == 2) inverse_pass<2, false>(a, n0, node);
      if (steps == 3) inverse_pass<3, false>(a, n0, node);
    }
  }

  // All values of a polynomial whose coefficients from `front` on are zero: the first steps only copy.
  void forward_front(const U* in, std::uint32_t front, U* out) const {
    for (std::uint32_t i = 0; i < t.n / front; ++i) {
      U* block = out + std::size_t{i} * front;
      forward_block<true, false>(in, block, front, t.n / front + i, block, 8);
    }
  }
};

inline bool is_tight(const NttView& t) { return t.q >> kLazyPrimeBits; }

template <typename L>
void forward_transform(const NttView& t, std::uint64_t* a) {
  if (is_tight(t)) return Transform<L, true>(t).template forward_block<true, false>(a, a, t.n, 1, a, 8);
  Transform<L>(t).template forward_block<true, false>(a, a, t.n, 1, a, 8);
}

template <typename L>
void inverse_transform(const NttView& t, std::uint64_t* a) {
  if (is_tight(t)) return Transform<L, true>(t).inverse_block(a, t.n, 1);
  Transform<L>(t).inverse_block(a, t.n, 1);
}

template <typename L>
void forward_front(const NttView& t, const std::uint64_t* in, std::uint32_t front, std::uint64_t* out) {
  if (is_tight(t)) return Transform<L, true>(t).forward_front(in, front, out);
  Transform<L>(t).forward_front(in, front, out);
}

}  // namespace
}  // namespace aero
