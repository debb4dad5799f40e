// The transform's steps over either kind of lanes (modarith_lanes.h).
//
// Ranges (Harvey 2014): forward, values stay below 4q between steps, the butterfly first brings x below 2q; inverse,
// below 2q. A prime of 51 bits leaves no room for 4q in a 52-bit word: then (`Tight`) values stay below 2q, and both
// inputs of a butterfly are fully reduced. Results always are, so every instruction set gives the same words.
#pragma once

#include "modarith_lanes.h"
#include "ntt.h"

namespace aero {
namespace {

template <typename L, bool Tight = false>
struct Transform {
  using V = typename L::V;
  using U = std::uint64_t;

  const NttView& t;
  const LaneModulus<L> m;

  explicit Transform(const NttView& view) : t(view), m(view.q) {}

  // (x, y) -> (x + w y, x - w y): below 4q (2q) in and out
  void forward_step(V& x, V& y, const V& w, const V& quotient) const {
    const V wy = m.mul_lazy(y, w, quotient);
    if (Tight) {
      const V low = m.once(wy), own = m.once(x);
      x = L::add(own, low);
      y = L::sub(L::add(own, m.q), low);
      return;
    }
    const V reduced = m.halve(x);
    x = L::add(reduced, wy);
    y = L::sub(L::add(reduced, m.twice), wy);
  }
  // x - y plus a multiple of q, below 4q, for x, y below 2q; tight, below 2q, and reduces x and y.
  V subtract(V& x, V& y) const {
    if (!Tight) return L::sub(L::add(x, m.twice), y);
    x = m.once(x);
    y = m.once(y);
    return L::sub(L::add(x, m.q), y);
  }
  // (x, y) -> (x + y, (x - y) w): below 2q in and out
  void inverse_step(V& x, V& y, const V& w, const V& quotient) const {
    const V difference = subtract(x, y);
    x = Tight ? L::add(x, y) : m.halve(L::add(x, y));
    y = m.mul_lazy(difference, w, quotient);
  }
  // The very last inverse step, which also divides by n: fully reduced results.
  void last_inverse_step(V& x, V& y) const {
    const V difference = subtract(x, y);
    x = m.mul(L::add(x, y), t.inverse_n);
    y = m.mul(difference, t.inverse_n_root);
  }

  // `Log` forward steps of the sub-transform of n0 coefficients rooted at `node`.
  template <int Log>
  void forward_pass(U* a, std::uint32_t n0, std::uint32_t node) const {
    constexpr int R = 1 << Log;
    const std::uint32_t step = n0 >> Log;
    V w[R], quotient[R];
    for (int i = 1; i < R; ++i) {  // i = 2^k + j: root j of the k-th step
      const int k = i >= 4 ? 2 : i >= 2 ? 1 : 0;
      w[i] = L::set(t.root[(node << k) + i - (1 << k)]);
      quotient[i] = L::set_quotient(t.quotient[(node << k) + i - (1 << k)]);
    }
    for (std::uint32_t j = 0; j < step; j += 8) {
      V x[R];
      for (int r = 0; r < R; ++r) x[r] = L::load(a + r * step + j);
      for (int k = 0; k < Log; ++k) {
        const int half = R >> (k + 1);
        for (int r = 0; r < R / 2; ++r) {
          const int group = r / half, lo = 2 * half * group + r % half;
          forward_step(x[lo], x[lo + half], w[(1 << k) + group], quotient[(1 << k) + group]);
        }
      }
      for (int r = 0; r < R; ++r) L::store(a + r * step + j, x[r]);
    }
  }

  // The last six steps: x holds 64 coefficients, `node` is n/64 + the number of the run. Values stay below 4q (2q)
  // unless they are to be fully reduced.
  template <bool Full = true>
  void forward_tail(V (&x)[8], std::uint32_t node) const {
    for (int k = 0; k < 3; ++k) {
      const int half = 4 >> k;
      for (int r = 0; r < 4; ++r) {
        const int group = r / half, lo = 2 * half * group + r % half;
        const std::uint32_t i = (node << k) + group;
        forward_step(x[lo], x[lo + half], L::set(t.root[i]), L::set_quotient(t.quotient[i]));
      }
    }
    L::transpose(x);
    const U* tail = t.tail + std::size_t{112} * (node - t.n / kRun);
    for (int k = 0; k < 3; ++k) {
      const int first = (1 << k) - 1;
      const int half = 4 >> k;
      for (int r = 0; r < 4; ++r) {
        const int group = r / half, lo = 2 * half * group + r % half;
        const U* w = tail + 16 * (first + group);
        forward_step(x[lo], x[lo + half], L::load(w), L::load_quotient(w + 8));
      }
    }
    if (Full)
      for (int r = 0; r < 8; ++r) x[r] = Tight ? m.once(x[r]) : m.full(x[r]);
  }

  void forward_run(const U* in, U* out, std::uint32_t node) const {
    V x[8];
    for (int r = 0; r < 8; ++r) x[r] = L::load(in + 8 * r);
    forward_tail(x, node);
    for (int r = 0; r < 8; ++r) L::store(out + 8 * r, x[r]);
  }

  void forward_block(U* a, std::uint32_t n0, std::uint32_t node) const {
    if (n0 == kRun) return forward_run(a, a, node);
    const std::uint32_t ratio = n0 / kRun;
    const int steps = ratio == 2 ? 1 : ratio == 4 || ratio == 16 ? 2 : 3;
    if (steps == 1) forward_pass<1>(a, n0, node);
    if (steps == 2) forward_pass<2>(a, n0, node);
    if (steps == 3) forward_pass<3>(a, n0, node);
    const std::uint32_t part = n0 >> steps;
    for (std::uint32_t i = 0; i < (1u << steps); ++i) forward_block(a + i * part, part, (node << steps) + i);
  }

  template <int Log, bool Last>
  void inverse_pass(U* a, std::uint32_t n0, std::uint32_t node) const {
    constexpr int R = 1 << Log;
    const std::uint32_t step = n0 >> Log;
    V w[R], quotient[R];
    for (int i = 1; i < R; ++i) {
      const int k = i >= 4 ? 2 : i >= 2 ? 1 : 0;
      w[i] = L::set(t.iroot[(node << k) + i - (1 << k)]);
      quotient[i] = L::set_quotient(t.iquotient[(node << k) + i - (1 << k)]);
    }
    for (std::uint32_t j = 0; j < step; j += 8) {
      V x[R];
      for (int r = 0; r < R; ++r) x[r] = L::load(a + r * step + j);
      for (int k = Log - 1; k >= 0; --k) {
        const int half = R >> (k + 1);
        for (int r = 0; r < R / 2; ++r) {
          const int group = r / half, lo = 2 * half * group + r % half;
          if (Last && k == 0)
            last_inverse_step(x[lo], x[lo + half]);
          else
            inverse_step(x[lo], x[lo + half], w[(1 << k) + group], quotient[(1 << k) + group]);
        }
      }
      for (int r = 0; r < R; ++r) L::store(a + r * step + j, x[r]);
    }
  }

  void inverse_run(U* a, std::uint32_t node) const {
    V x[8];
    for (int r = 0; r < 8; ++r) x[r] = L::load(a + 8 * r);
    const U* tail = t.itail + std::size_t{112} * (node - t.n / kRun);
    for (int k = 2; k >= 0; --k) {
      const int first = (1 << k) - 1;
      const int half = 4 >> k;
      for (int r = 0; r < 4; ++r) {
        const int group = r / half, lo = 2 * half * group + r % half;
        const U* w = tail + 16 * (first + group);
        inverse_step(x[lo], x[lo + half], L::load(w), L::load_quotient(w + 8));
      }
    }
    L::transpose(x);
    for (int k = 2; k >= 0; --k) {
      const int half = 4 >> k;
      for (int r = 0; r < 4; ++r) {
        const int group = r / half, lo = 2 * half * group + r % half;
        const std::uint32_t i = (node << k) + group;
        inverse_step(x[lo], x[lo + half], L::set(t.iroot[i]), L::set_quotient(t.iquotient[i]));
      }
    }
    for (int r = 0; r < 8; ++r) L::store(a + 8 * r, x[r]);
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
      const std::uint32_t node = t.n / front + i;
      U* block = out + std::size_t{i} * front;
      if (front == kRun) {
        forward_run(in, block, node);
        continue;
      }
      for (std::uint32_t j = 0; j < front; j += 8) L::store(block + j, L::load(in + j));
      forward_block(block, front, node);
    }
  }
};

inline bool is_tight(const NttView& t) { return t.q >> kLazyPrimeBits; }

template <typename L>
void forward_transform(const NttView& t, std::uint64_t* a) {
  if (is_tight(t)) return Transform<L, true>(t).forward_block(a, t.n, 1);
  Transform<L>(t).forward_block(a, t.n, 1);
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
