// The lanes of modarith_lanes.h for AVX2, which multiplies no 52-bit integers: integers in double precision, with fused
// multiply-adds (van der Hoeven, Lecerf and Quintin, "Modular SIMD arithmetic in Mathemagix", 2016). Below 2^53 every
// sum is exact; a product is h + l with h rounded and l the fused rest. In memory lanes are the same words as elsewhere,
// but for what a transform holds between its steps and the operands of long sums: those are the doubles themselves.
//
// Adding and subtracting 1.5 2^52 rounds to the nearest integer what lies between -2^51 and 2^51. No operation yields -0
// from other numbers, so that the sign bit means "negative".
//
// Needs the default rounding to nearest, and a compiler that fuses nothing by itself (-ffp-contract=off).
#pragma once

#include "modarith_lanes.h"
#include "ntt.h"

namespace aero {
namespace {

struct Avx2Sums;
class Avx2LongSums;
template <bool Tight>
class SignedSteps;

struct Avx2Lanes {
  using U = std::uint64_t;
  using V = __m256d;
  using Number = double;
  using Sums = Avx2Sums;
  using LongSums = Avx2LongSums;
  template <bool Tight>
  using Steps = SignedSteps<Tight>;
  static constexpr int kCount = 4;
  static constexpr int kColumns = 2;

  // An integer below 2^52 in the mantissa of 2^52 is 2^52 more than itself.
  AERO_INLINE V from_words(__m256i words, double magic) {
    return _mm256_sub_pd(_mm256_castsi256_pd(_mm256_or_si256(words, _mm256_castpd_si256(spread(0x1p52)))), spread(magic));
  }
  AERO_INLINE __m256i words_at(const U* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
  AERO_INLINE void put_words(U* p, __m256i words) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), words); }

  AERO_INLINE V spread(double x) { return _mm256_set1_pd(x); }
  AERO_INLINE V set(U x) { return spread(static_cast<double>(static_cast<std::int64_t>(x))); }
  AERO_INLINE V load(const U* p) { return from_words(words_at(p), 0x1p52); }
  AERO_INLINE void store(U* p, V a) {
    put_words(p, _mm256_castpd_si256(_mm256_xor_pd(_mm256_add_pd(a, spread(0x1p52)), spread(0x1p52))));
  }
  AERO_INLINE V load_small(const std::int8_t* p) {
    std::int32_t four;
    __builtin_memcpy(&four, p, 4);
    return _mm256_cvtepi32_pd(_mm_cvtepi8_epi32(_mm_cvtsi32_si128(four)));
  }
  AERO_INLINE V load_low(const std::int64_t* p) {
    const __m256i mask = _mm256_set1_epi64x(0xffffffff);
    return from_words(_mm256_and_si256(words_at(reinterpret_cast<const U*>(p)), mask), 0x1p52);
  }
  AERO_INLINE V load_high(const std::int64_t* p) {
    const __m256i sign = _mm256_set1_epi64x(static_cast<long long>(U{1} << 63));
    const __m256i words = _mm256_xor_si256(words_at(reinterpret_cast<const U*>(p)), sign);
    return from_words(_mm256_srli_epi64(words, 32), 0x1p52);
  }
  AERO_INLINE V load_signed(const U* p) {
    const __m256i magic = _mm256_castpd_si256(spread(0x1.8p52));
    return _mm256_sub_pd(_mm256_castsi256_pd(_mm256_add_epi64(words_at(p), magic)), spread(0x1.8p52));
  }
  AERO_INLINE void store_signed(U* p, V a) {
    const __m256i magic = _mm256_castpd_si256(spread(0x1.8p52));
    put_words(p, _mm256_sub_epi64(_mm256_castpd_si256(_mm256_add_pd(a, spread(0x1.8p52))), magic));
  }
  // A quotient is cut off: half a unit more, and it is off by half a unit at most.
  AERO_INLINE V load_quotient(const U* p) { return from_words(words_at(p), 0x1p52 - 0.5); }
  AERO_INLINE V set_quotient(U x) { return spread(static_cast<double>(x) + 0.5); }
  AERO_INLINE V gather(const U* base, const std::uint32_t* index) {
    const __m128i at = _mm_loadu_si128(reinterpret_cast<const __m128i*>(index));
    return from_words(_mm256_i32gather_epi64(reinterpret_cast<const long long*>(base), at, 8), 0x1p52);
  }
  AERO_INLINE V add(V a, V b) { return _mm256_add_pd(a, b); }
  AERO_INLINE V sub(V a, V b) { return _mm256_sub_pd(a, b); }
  AERO_INLINE V drop(V x, V q) {
    const V less = sub(x, q);
    return _mm256_blendv_pd(less, x, less);  // by the sign
  }
  AERO_INLINE V wrap(V d, V q) { return _mm256_blendv_pd(d, add(d, q), d); }
  template <int Bits>
  AERO_INLINE V right(V a) {
    return _mm256_floor_pd(_mm256_mul_pd(a, spread(1.0 / static_cast<double>(U{1} << Bits))));
  }
  AERO_INLINE V times(V x, V c) { return _mm256_mul_pd(x, c); }
  AERO_INLINE V above(V a, V limit, V b) { return _mm256_and_pd(_mm256_cmp_pd(a, limit, _CMP_GT_OQ), b); }
  // x w - (e - 1) q, where e is x w' / 2^52 rounded to an integer by the sum with 2^104. As w' is off by half a unit at
  // most, e is off x w / q by less than 1/2 + x / 2^53 < 1: the result is in (0, 2q). `scaled_q` is q / 2^52.
  AERO_INLINE V mul(V x, V w, V quotient, V /*q*/, V scaled_q) {
    const V e = sub(_mm256_fmadd_pd(x, quotient, spread(0x1p104)), spread(0x1p104 + 0x1p52));
    const V h = _mm256_mul_pd(x, w);
    return add(_mm256_fnmadd_pd(e, scaled_q, h), _mm256_fmsub_pd(x, w, h));
  }

  // The nearest integer to a b, which is between -2^51 and 2^51.
  AERO_INLINE V nearest(V a, V b) { return sub(_mm256_fmadd_pd(a, b, spread(0x1.8p52)), spread(0x1.8p52)); }
  // x less the multiple of q that brings it between -q/2 and q/2, or a unit beyond; |x| < 2^53, and q at least 4
  AERO_INLINE V settle(V x, V q, V reciprocal) { return _mm256_fnmadd_pd(nearest(x, reciprocal), q, x); }
  // x w modulo q for |x w / q| < 2^51, fraction = w / q rounded. The nearest integer to x w / q is taken half a unit and
  // |x w / q| / 2^53 off at most, which is how many q the result is from zero at most: below 3q/4.
  AERO_INLINE V mul_signed(V x, V w, V fraction, V q) {
    const V e = nearest(x, fraction), h = _mm256_mul_pd(x, w);
    return add(_mm256_fnmadd_pd(e, q, h), _mm256_fmsub_pd(x, w, h));
  }

  AERO_INLINE const Roots<double>& roots(const NttView& t) { return t.doubles; }
  AERO_INLINE const Roots<double>& inverse_roots(const NttView& t) { return t.inverse_doubles; }
  AERO_INLINE V set_root(double x) { return spread(x); }
  AERO_INLINE V load_root(const double* p) { return _mm256_loadu_pd(p); }

  AERO_INLINE void transpose_four(V& a, V& b, V& c, V& d) {
    const V t0 = _mm256_unpacklo_pd(a, b), t1 = _mm256_unpackhi_pd(a, b);
    const V t2 = _mm256_unpacklo_pd(c, d), t3 = _mm256_unpackhi_pd(c, d);
    a = _mm256_permute2f128_pd(t0, t2, 0x20);
    b = _mm256_permute2f128_pd(t1, t3, 0x20);
    c = _mm256_permute2f128_pd(t0, t2, 0x31);
    d = _mm256_permute2f128_pd(t1, t3, 0x31);
  }
  AERO_INLINE void transpose(V (&a)[2][8]) {
    for (int half = 0; half < 2; ++half)
      for (int i = 0; i < 8; i += 4) transpose_four(a[half][i], a[half][i + 1], a[half][i + 2], a[half][i + 3]);
    for (int i = 0; i < 4; ++i) {
      const V t = a[1][i];
      a[1][i] = a[0][i + 4];
      a[0][i + 4] = t;
    }
  }
};

// Doubles in memory that is declared as words.
AERO_INLINE __m256d take_doubles(const std::uint64_t* p) {
  return _mm256_castsi256_pd(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
AERO_INLINE void hold_doubles(std::uint64_t* p, __m256d a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_castpd_si256(a));
}

// Values between the steps of a transform, of either sign. In units of q, with |w| <= 1/2:
//
// A product of y with a root is at most 1/2 + |y| 2^(b - 54) for a prime of b bits (mul_signed), and needs |y| < 2^(52-b).
// At 50 bits that is 1/2 + |y| / 16 and |y| < 4. Forward, x and y become x + wy and x - wy: from 2, as words may be,
// three steps lead to 2.63, 3.29, 3.996; from 1/2, six lead to 1.04, 1.60, 2.20, 2.84, 3.51, 4.23. So values are settled
// after each pass of at most three steps, and before the last six where these read words. Inverse, sums double: from 1/2,
// three steps multiply differences of 1, 2 and 4; four times 1/2 and a unit is below 2^51 / q, as q is 2^13 below 2^50.
// At 51 bits (`Tight`) a product is 1/2 + |y| / 8, |y| < 2, and each step settles x (forward) or both results (inverse).
template <bool Tight>
class SignedSteps {
 public:
  using L = Avx2Lanes;
  using V = L::V;
  using U = L::U;

  explicit SignedSteps(const NttView& t)
      : q_(L::set(t.q)), reciprocal_(L::spread(1 / static_cast<double>(t.q))), n_(of(t.inverse_n, t.q)),
        n_root_(of(t.inverse_n_root, t.q)) {}

  AERO_INLINE V take(const U* p) { return take_doubles(p); }
  AERO_INLINE void hold(U* p, V a) { hold_doubles(p, a); }

  void forward(V& x, V& y, V w, V fraction) const {
    const V wy = L::mul_signed(y, w, fraction, q_), own = Tight ? settle(x) : x;
    x = L::add(own, wy);
    y = L::sub(own, wy);
  }
  void inverse(V& x, V& y, V w, V fraction) const {
    const V difference = L::sub(x, y), sum = L::add(x, y);
    x = Tight ? settle(sum) : sum;
    y = L::mul_signed(Tight ? settle(difference) : difference, w, fraction, q_);
  }
  void last_inverse(V& x, V& y) const {
    const V difference = L::sub(x, y), sum = L::add(x, y);
    x = L::wrap(L::mul_signed(Tight ? settle(sum) : sum, n_.w, n_.fraction, q_), q_);
    y = L::wrap(L::mul_signed(Tight ? settle(difference) : difference, n_root_.w, n_root_.fraction, q_), q_);
  }
  V settle(V x) const { return L::settle(x, q_, reciprocal_); }
  V whole(V x) const { return L::wrap(settle(x), q_); }

 private:
  struct Constant {
    V w, fraction;
  };
  static Constant of(const Factor& f, U q) {
    const double w = centred(f.value, q);
    return {L::spread(w), L::spread(w / static_cast<double>(q))};
  }

  const V q_, reciprocal_;
  const Constant n_, n_root_;
};

// Long sums of products of operands a, b between -q/2 and q/2, q of b bits. Each product is split exactly: a high part,
// its nearest multiple of 2^b, by a sum with 1.5 2^(52 + b), and a low part of at most 2^(b-1). After terms() = 2^(53-b)
// of them the high sum is below 2^(51+b), where the magic number still rounds alike, and the low sum below 2^52 more
// than it was; then the high sum times 2^b modulo q, at most 5/8, and the settled low sum, at most 1/2 and a unit, are the
// new low sum: below 2^52 + 1.13 q < 2^53 at any time.
class Avx2LongSums {
 public:
  using L = Avx2Lanes;
  using V = L::V;
  using U = L::U;
  struct Sum {
    V high, low;
  };
  struct Scale {
    V w, fraction;
  };

  explicit Avx2LongSums(U q) : q_(L::set(q)), reciprocal_(L::spread(1 / static_cast<double>(q))) {
    int bits = 0;
    while (q >> bits) ++bits;
    terms_ = bits > 42 ? std::uint32_t{1} << (53 - bits) : std::uint32_t{1} << 11;
    const double unit = static_cast<double>(U{1} << bits);
    magic_ = L::spread(0x1.8p52 * unit);
    down_ = L::spread(1 / unit);
    carry_ = constant(centred((U{1} << bits) % q, q), q);
  }
  std::uint32_t terms() const { return terms_; }
  Sum zero() const { return {magic_, L::spread(0)}; }
  AERO_INLINE Scale scale(const Factor (&c)[3], U q) { return constant(centred(c[0].value, q), q); }

  void multiply_add(Sum& sum, V a, V b) const {
    const V high = _mm256_fmadd_pd(a, b, sum.high);
    sum.low = L::add(sum.low, _mm256_fmsub_pd(a, b, L::sub(high, sum.high)));
    sum.high = high;
  }
  void fold(Sum& sum) const {
    const V high = _mm256_mul_pd(L::sub(sum.high, magic_), down_);
    sum.low = L::add(L::settle(sum.low, q_, reciprocal_), L::mul_signed(high, carry_.w, carry_.fraction, q_));
    sum.high = magic_;
  }
  // A folded sum times a constant, in [0, q).
  V finish(const Sum& sum, const Scale& c) const {
    return L::wrap(L::mul_signed(sum.low, c.w, c.fraction, q_), q_);
  }
  AERO_INLINE V load(const U* p) { return take_doubles(p); }
  // Residues as operands.
  AERO_INLINE void hold_operand(U q, const U* from, U* to) {
    const V x = L::load(from);
    hold_doubles(to, L::sub(x, L::above(x, L::set(q / 2), L::set(q))));
  }

 private:
  static Scale constant(double w, U q) { return {L::spread(w), L::spread(w / static_cast<double>(q))}; }

  const V q_, reciprocal_;
  std::uint32_t terms_;
  V magic_, down_;
  Scale carry_;
};

struct Avx2Sums {
  using L = Avx2Lanes;
  using V = L::V;
  using U = L::U;

  using Scale = Avx2LongSums::Scale;

  // Each product of residues adds between -3q/4 and 3q/4, at 51 bits between -q and q: the nearest integer to h / q is
  // half a unit off at most, and h and 1 / q are each off by 2^-53 of at most q.
  struct Sum {
    V rest = L::spread(0);
  };
  template <typename M>
  AERO_INLINE void multiply_add(const M& m, Sum& sum, V a, V b) {
    const V h = _mm256_mul_pd(a, b), l = _mm256_fmsub_pd(a, b, h);
    sum.rest = L::add(sum.rest, L::add(_mm256_fnmadd_pd(L::nearest(h, m.reciprocal), m.q, h), l));
  }
  AERO_INLINE Scale scale(const Factor (&c)[3], U q) { return Avx2LongSums::scale(c, q); }
  // The sum of at most three products times a constant; at 51 bits, of one.
  template <typename M>
  AERO_INLINE V finish(const M& m, const Sum& sum, const Scale& c) {
    return L::wrap(L::mul_signed(sum.rest, c.w, c.fraction, m.q), m.q);
  }
  // The sum of as many products with keys, which are held as they are.
  template <typename M>
  AERO_INLINE V whole(const M& m, const Sum& sum) {
    return L::wrap(L::settle(sum.rest, m.q, m.reciprocal), m.q);
  }
  AERO_INLINE U key_factor(U /*q*/) { return 1; }

  // The digit to the nearest integer is right or one too large, as the inverse is cut off.
  AERO_INLINE V next_digit(V& rest, V q, V inverse) {
    const V fraction = _mm256_mul_pd(inverse, L::spread(0x1p-52));
    const V e = L::sub(_mm256_fmadd_pd(rest, fraction, L::spread(0x1p52)), L::spread(0x1p52));
    const V left = _mm256_fnmadd_pd(e, q, _mm256_mul_pd(rest, L::spread(0x1p50)));
    rest = _mm256_blendv_pd(left, L::add(left, q), left);
    return _mm256_blendv_pd(e, L::sub(e, L::spread(1)), left);
  }

  AERO_INLINE V complement(U q) { return L::spread(static_cast<double>(q) * 0x1p-52); }
  AERO_INLINE V reciprocal(U q) { return L::spread(1 / static_cast<double>(q)); }
};

}  // namespace
}  // namespace aero
