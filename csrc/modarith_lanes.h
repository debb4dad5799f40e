// Lanes of integers, `kCount` side by side, in forms with the same operations: portable, AVX-512 with IFMA, and AVX2 (in
// modarith_lanes_avx2.h). The kernels in ntt_kernels.h, rlwe_kernels.h and slots_kernels.h are written once over all of
// them. Everything here has internal linkage (see dispatch.h).
//
// Lanes hold 0 to 2^52 - 1, or where an operation says "signed" -2^51 to 2^51.
#pragma once

#include <cstddef>
#include <cstdint>

#include "modarith.h"
#include "ntt.h"

#if defined(__AVX2__)
#if defined(__GNUC__) && !defined(__clang__)
// GCC 12 takes the undefined pass-through operands inside its own intrinsics for uninitialised variables of ours.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#endif

namespace aero {
namespace {

#define AERO_INLINE static inline __attribute__((always_inline))

template <typename L>
struct IntegerSums;
template <typename L>
class IntegerLongSums;
template <typename L, bool Tight>
class LazySteps;

// What lanes of words say of themselves.
template <typename L>
struct WordLanes {
  using U = std::uint64_t;
  using Number = U;  // of a table of roots
  using Sums = IntegerSums<L>;
  using LongSums = IntegerLongSums<L>;
  template <bool Tight>
  using Steps = LazySteps<L, Tight>;
  static constexpr int kCount = 8;
  static constexpr int kColumns = 4;  // of a matrix product, whose sums fit the registers

  AERO_INLINE const Roots<U>& roots(const NttView& t) { return t.words; }
  AERO_INLINE const Roots<U>& inverse_roots(const NttView& t) { return t.inverse_words; }
};

struct PortableLanes : WordLanes<PortableLanes> {
  struct V {
    U lane[8];
  };

  template <typename F>
  AERO_INLINE V each(F f) {
    V r;
    for (int i = 0; i < 8; ++i) r.lane[i] = f(i);
    return r;
  }
  AERO_INLINE V load(const U* p) {
    return each([=](int i) { return p[i]; });
  }
  AERO_INLINE void store(U* p, const V& a) {
    for (int i = 0; i < 8; ++i) p[i] = a.lane[i];
  }
  // also signed
  AERO_INLINE V set(U x) {
    return each([=](int) { return x; });
  }
  AERO_INLINE V load_small(const std::int8_t* p) {
    return each([=](int i) { return static_cast<U>(static_cast<std::int64_t>(p[i])); });
  }
  // The halves of x + 2^63, 32 bits each, for any 64-bit x of either sign.
  AERO_INLINE V load_low(const std::int64_t* p) {
    return each([=](int i) { return static_cast<U>(p[i]) & 0xffffffff; });
  }
  AERO_INLINE V load_high(const std::int64_t* p) {
    return each([=](int i) { return (static_cast<U>(p[i]) ^ U{1} << 63) >> 32; });
  }
  AERO_INLINE V load_signed(const U* p) { return load(p); }
  AERO_INLINE void store_signed(U* p, const V& a) { store(p, a); }
  // quotients of constant factors, as `mul` takes them
  AERO_INLINE V load_quotient(const U* p) { return load(p); }
  AERO_INLINE V set_quotient(U x) { return set(x); }
  AERO_INLINE V set_root(U x) { return set(x); }
  AERO_INLINE V load_root(const U* p) { return load(p); }
  AERO_INLINE V gather(const U* base, const std::uint32_t* index) {
    return each([=](int i) { return base[index[i]]; });
  }
  AERO_INLINE V add(const V& a, const V& b) {
    return each([&](int i) { return a.lane[i] + b.lane[i]; });
  }
  AERO_INLINE V sub(const V& a, const V& b) {
    return each([&](int i) { return a.lane[i] - b.lane[i]; });
  }
  // x - q where that is not negative, else x
  AERO_INLINE V drop(const V& x, const V& q) { return wrap(sub(x, q), q); }
  // d + q where d is negative, else d
  AERO_INLINE V wrap(const V& d, const V& q) {
    return each([&](int i) { return d.lane[i] + (q.lane[i] & ones_if_negative(d.lane[i])); });
  }
  AERO_INLINE V word(const V& a) {
    return each([&](int i) { return a.lane[i] & kWordMask; });
  }
  AERO_INLINE V carry(const V& a) {
    return each([&](int i) { return a.lane[i] >> kWordBits; });
  }
  template <int Bits>
  AERO_INLINE V right(const V& a) {
    return each([&](int i) { return a.lane[i] >> Bits; });
  }
  // c + the low 52 bits of a b, for a, b < 2^52
  AERO_INLINE V mul_lo(const V& c, const V& a, const V& b) {
    return each([&](int i) { return c.lane[i] + (a.lane[i] * b.lane[i] & kWordMask); });
  }
  // c + floor(a b / 2^52), for a, b < 2^52
  AERO_INLINE V mul_hi(const V& c, const V& a, const V& b) {
    return each([&](int i) {
      return c.lane[i] + static_cast<U>((static_cast<unsigned __int128>(a.lane[i]) * b.lane[i]) >> kWordBits);
    });
  }
  // x c, below 2^52
  AERO_INLINE V times(const V& x, const V& c) { return mul_lo(set(0), x, c); }
  // x w modulo q, in [0, 2q), for any x < 2^52: x w - floor(x w' / 2^52) q
  AERO_INLINE V mul(const V& x, const V& w, const V& quotient, const V& q, const V& /*minus_q*/) {
    return each([&](int i) {
      const U e = static_cast<U>((static_cast<unsigned __int128>(x.lane[i]) * quotient.lane[i]) >> kWordBits);
      return x.lane[i] * w.lane[i] - e * q.lane[i];
    });
  }
  // where a > limit: b, elsewhere zero
  AERO_INLINE V above(const V& a, const V& limit, const V& b) {
    return each([&](int i) { return b.lane[i] & ones_if_negative(limit.lane[i] - a.lane[i]); });
  }
  // Rows to columns of the 8 x 8 matrix, of which a[h][i] is part h of row i.
  AERO_INLINE void transpose(V (&a)[1][8]) {
    for (int i = 0; i < 8; ++i)
      for (int j = 0; j < i; ++j) {
        const U t = a[0][i].lane[j];
        a[0][i].lane[j] = a[0][j].lane[i];
        a[0][j].lane[i] = t;
      }
  }
};

#if defined(__AVX512IFMA__)
struct Avx512Lanes : WordLanes<Avx512Lanes> {
  using V = __m512i;

  AERO_INLINE V load(const U* p) { return _mm512_loadu_si512(p); }
  AERO_INLINE void store(U* p, V a) { _mm512_storeu_si512(p, a); }
  AERO_INLINE V set(U x) { return _mm512_set1_epi64(static_cast<long long>(x)); }
  AERO_INLINE V load_small(const std::int8_t* p) {
    return _mm512_cvtepi8_epi64(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  }
  AERO_INLINE V load_low(const std::int64_t* p) { return _mm512_and_si512(_mm512_loadu_si512(p), set(0xffffffff)); }
  AERO_INLINE V load_high(const std::int64_t* p) {
    return _mm512_srli_epi64(_mm512_xor_si512(_mm512_loadu_si512(p), set(U{1} << 63)), 32);
  }
  AERO_INLINE V load_signed(const U* p) { return load(p); }
  AERO_INLINE void store_signed(U* p, V a) { store(p, a); }
  AERO_INLINE V load_quotient(const U* p) { return load(p); }
  AERO_INLINE V set_quotient(U x) { return set(x); }
  AERO_INLINE V set_root(U x) { return set(x); }
  AERO_INLINE V load_root(const U* p) { return load(p); }
  AERO_INLINE V gather(const U* base, const std::uint32_t* index) {
    return _mm512_i32gather_epi64(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(index)), base, 8);
  }
  AERO_INLINE V add(V a, V b) { return _mm512_add_epi64(a, b); }
  AERO_INLINE V sub(V a, V b) { return _mm512_sub_epi64(a, b); }
  AERO_INLINE V min(V a, V b) { return _mm512_min_epu64(a, b); }
  AERO_INLINE V drop(V x, V q) { return min(x, sub(x, q)); }
  AERO_INLINE V wrap(V d, V q) { return min(d, add(d, q)); }
  AERO_INLINE V word(V a) { return _mm512_and_si512(a, set(kWordMask)); }
  AERO_INLINE V carry(V a) { return _mm512_srli_epi64(a, kWordBits); }
  template <int Bits>
  AERO_INLINE V right(V a) {
    return _mm512_srli_epi64(a, Bits);
  }
  AERO_INLINE V mul_lo(V c, V a, V b) { return _mm512_madd52lo_epu64(c, a, b); }
  AERO_INLINE V mul_hi(V c, V a, V b) { return _mm512_madd52hi_epu64(c, a, b); }
  AERO_INLINE V times(V x, V c) { return mul_lo(set(0), x, c); }
  AERO_INLINE V mul(V x, V w, V quotient, V /*q*/, V minus_q) {
    const V zero = _mm512_setzero_si512();
    const V e = _mm512_madd52hi_epu64(zero, x, quotient);
    const V product = _mm512_madd52lo_epu64(zero, x, w);
    return word(_mm512_madd52lo_epu64(product, e, minus_q));  // minus_q = 2^52 - q
  }
  AERO_INLINE V above(V a, V limit, V b) { return _mm512_maskz_mov_epi64(_mm512_cmpgt_epu64_mask(a, limit), b); }
  AERO_INLINE void transpose(V (&all)[1][8]) {
    V(&a)[8] = all[0];
    V t[8], u[8];
    for (int i = 0; i < 8; i += 2) {
      t[i] = _mm512_unpacklo_epi64(a[i], a[i + 1]);
      t[i + 1] = _mm512_unpackhi_epi64(a[i], a[i + 1]);
    }
    for (int i = 0; i < 8; i += 4)
      for (int j = 0; j < 2; ++j) {
        u[i + j] = _mm512_permutex2var_epi64(t[i + j], _mm512_set_epi64(13, 12, 5, 4, 9, 8, 1, 0), t[i + j + 2]);
        u[i + j + 2] = _mm512_permutex2var_epi64(t[i + j], _mm512_set_epi64(15, 14, 7, 6, 11, 10, 3, 2), t[i + j + 2]);
      }
    for (int i = 0; i < 4; ++i) {
      a[i] = _mm512_shuffle_i64x2(u[i], u[i + 4], 0x44);
      a[i + 4] = _mm512_shuffle_i64x2(u[i], u[i + 4], 0xee);
    }
  }
};
#endif

// Sums of products modulo q, and division, where lanes are 64-bit integers.
template <typename L>
struct IntegerSums {
  using V = typename L::V;
  using U = std::uint64_t;

  struct Scale {
    Factor c[3];
  };
  AERO_INLINE Scale scale(const Factor (&c)[3], U /*q*/) { return {{c[0], c[1], c[2]}}; }

  // Products of a < 4q with b < q, split at bit 52. Each adds less than 2^52 to lo and 2^50 to hi, so after kMaxInner =
  // 2^11 of them the sums are below 2^63 and 2^61: hi itself may exceed a word and is split as well.
  struct Sum {
    V lo = L::set(0), hi = L::set(0);
  };
  template <typename M>
  AERO_INLINE void multiply_add(const M& /*modulus*/, Sum& sum, const V& a, const V& b) {
    sum.lo = L::mul_lo(sum.lo, a, b);
    sum.hi = L::mul_hi(sum.hi, a, b);
  }
  // The sum times a constant c, given c, c 2^52, c 2^104; fully reduced.
  template <typename M>
  AERO_INLINE V finish(const M& m, const Sum& sum, const Scale& s) {
    const V carried = L::add(sum.hi, L::carry(sum.lo));
    const V low = m.mul_lazy(L::word(sum.lo), s.c[0]);
    const V middle = m.mul_lazy(L::word(carried), s.c[1]);
    const V high = m.mul_lazy(L::carry(carried), s.c[2]);
    return m.full(L::add(m.halve(L::add(low, middle)), high));
  }
  // The sum of at most four products of a < q with keys b, fully reduced; q is below 2^50. A key is held times 2^52, and a reduction divides by
  // that (Montgomery 1985): lo is e q modulo 2^52, so hi less the high part of e q is exact, and between -q and q, as hi is
  // below 4 q^2 / 2^52 < q.
  template <typename M>
  AERO_INLINE V whole(const M& m, const Sum& sum) {
    const V zero = L::set(0), e = L::mul_lo(zero, L::word(sum.lo), m.reciprocal);
    return L::wrap(L::sub(L::add(sum.hi, L::carry(sum.lo)), L::mul_hi(zero, e, m.q)), m.q);
  }
  AERO_INLINE U key_factor(U q) { return (U{1} << kWordBits) % q; }

  // floor(rest 2^50 / q), and the new rest, for rest < q < 2^51; inverse = floor(2^102 / q), q > 2^50.
  AERO_INLINE V next_digit(V& rest, const V& q, const V& inverse) {
    const V zero = L::set(0);
    V digit = L::mul_hi(zero, rest, inverse);  // right or one too small
    rest = L::word(L::sub(L::mul_lo(zero, rest, L::set(U{1} << 50)), L::mul_lo(zero, digit, q)));
    digit = L::add(digit, L::above(rest, L::sub(q, L::set(1)), L::set(1)));
    rest = L::drop(rest, q);
    return digit;
  }

  // What `mul` and `whole` want to know of q beside itself: 2^52 - q; its inverse modulo 2^52 (by Newton's steps, from the
  // three bits of which every odd number is its own inverse).
  AERO_INLINE V complement(U q) { return L::set(kWordMask + 1 - q); }
  AERO_INLINE V reciprocal(U q) {
    U inverse = q;
    for (int bits = 3; bits < kWordBits; bits *= 2) inverse *= 2 - q * inverse;
    return L::set(inverse & kWordMask);
  }
};

// A modulus spread over the lanes, and the reductions that every kernel needs.
template <typename L>
struct LaneModulus {
  using V = typename L::V;
  using Sums = typename L::Sums;
  V q, twice, complement, reciprocal;

  explicit LaneModulus(std::uint64_t modulus)
      : q(L::set(modulus)), twice(L::set(2 * modulus)), complement(Sums::complement(modulus)),
        reciprocal(Sums::reciprocal(modulus)) {}

  V mul_lazy(const V& x, const V& w, const V& quotient) const { return L::mul(x, w, quotient, q, complement); }  // [0, 2q)
  V mul_lazy(const V& x, const Factor& w) const { return mul_lazy(x, L::set(w.value), L::set_quotient(w.quotient)); }
  V mul(const V& x, const Factor& w) const { return once(mul_lazy(x, w)); }
  V once(const V& x) const { return L::drop(x, q); }       // [0, 2q) -> [0, q)
  V halve(const V& x) const { return L::drop(x, twice); }  // [0, 4q) -> [0, 2q)
  V full(const V& x) const { return once(halve(x)); }      // [0, 4q) -> [0, q)
  V add(const V& a, const V& b) const { return once(L::add(a, b)); }
  V sub(const V& a, const V& b) const { return L::wrap(L::sub(a, b), q); }
};

// Values between the steps of a transform (Harvey 2014), for lanes of words: forward, they stay below 4q, and a step first
// brings x below 2q; inverse, below 2q. A prime of 51 bits leaves no room for 4q in a 52-bit word: then (`Tight`) values
// stay below 2q, and both inputs of a step are fully reduced.
template <typename L, bool Tight>
class LazySteps {
 public:
  using V = typename L::V;
  using U = typename L::U;

  explicit LazySteps(const NttView& t) : m_(t.q), n_(t.inverse_n), n_root_(t.inverse_n_root) {}

  AERO_INLINE V take(const U* p) { return L::load(p); }
  AERO_INLINE void hold(U* p, const V& a) { L::store(p, a); }

  // (x, y) -> (x + w y, x - w y)
  void forward(V& x, V& y, const V& w, const V& quotient) const {
    const V wy = m_.mul_lazy(y, w, quotient);
    if (Tight) {
      const V low = m_.once(wy), own = m_.once(x);
      x = L::add(own, low);
      y = L::sub(L::add(own, m_.q), low);
      return;
    }
    const V reduced = m_.halve(x);
    x = L::add(reduced, wy);
    y = L::sub(L::add(reduced, m_.twice), wy);
  }
  // (x, y) -> (x + y, (x - y) w)
  void inverse(V& x, V& y, const V& w, const V& quotient) const {
    const V difference = subtract(x, y);
    x = Tight ? L::add(x, y) : m_.halve(L::add(x, y));
    y = m_.mul_lazy(difference, w, quotient);
  }
  // The very last inverse step, which also divides by n: fully reduced results.
  void last_inverse(V& x, V& y) const {
    const V difference = subtract(x, y);
    x = m_.mul(L::add(x, y), n_);
    y = m_.mul(difference, n_root_);
  }
  // After a pass of at most three steps, and as an operand of LongSums, below 4q; fully reduced.
  const V& settle(const V& x) const { return x; }
  V whole(const V& x) const { return Tight ? m_.once(x) : m_.full(x); }

 private:
  // x - y plus a multiple of q, below 4q; tight, below 2q, and reduces x and y.
  V subtract(V& x, V& y) const {
    if (!Tight) return L::sub(L::add(x, m_.twice), y);
    x = m_.once(x);
    y = m_.once(y);
    return L::sub(L::add(x, m_.q), y);
  }

  const LaneModulus<L> m_;
  const Factor n_, n_root_;
};

// Sums of up to 2^11 products of operands, a below 4q and b below q: as IntegerSums has them.
template <typename L>
class IntegerLongSums {
 public:
  using V = typename L::V;
  using U = typename L::U;
  using Sum = typename IntegerSums<L>::Sum;
  using Scale = typename IntegerSums<L>::Scale;

  explicit IntegerLongSums(U q) : m_(q) {}
  std::uint32_t terms() const { return 1u << 11; }  // between two folds
  Sum zero() const { return {}; }
  AERO_INLINE Scale scale(const Factor (&c)[3], U q) { return IntegerSums<L>::scale(c, q); }
  void multiply_add(Sum& sum, const V& a, const V& b) const { IntegerSums<L>::multiply_add(m_, sum, a, b); }
  void fold(Sum& /*sum*/) const {}
  V finish(const Sum& sum, const Scale& s) const { return IntegerSums<L>::finish(m_, sum, s); }
  AERO_INLINE V load(const U* p) { return L::load(p); }
  // Residues as operands.
  AERO_INLINE void hold_operand(U /*q*/, const U* from, U* to) { L::store(to, L::load(from)); }

 private:
  const LaneModulus<L> m_;
};

}  // namespace
}  // namespace aero
