// The lanes of modarith_lanes.h for AVX2, which multiplies no 52-bit integers: integers in double precision, with fused
// multiply-adds (van der Hoeven, Lecerf and Quintin, "Modular SIMD arithmetic in Mathemagix", 2016). Below 2^53 every
// sum is exact; a product is h + l with h rounded and l the fused rest. In memory lanes are the same words as elsewhere.
//
// Needs the default rounding to nearest, and a compiler that fuses nothing by itself (-ffp-contract=off).
#pragma once

#include "modarith_lanes.h"

namespace aero {
namespace {

struct Avx2Sums;

struct Avx2Lanes {
  using U = std::uint64_t;
  using Sums = Avx2Sums;
  struct V {
    __m256d half[2];
  };

  template <typename F>
  AERO_INLINE V each(F f) {
    return {{f(0), f(1)}};
  }
  AERO_INLINE __m256d all(double x) { return _mm256_set1_pd(x); }
  AERO_INLINE V spread(double x) { return {{all(x), all(x)}}; }

  // An integer below 2^52 in the mantissa of 2^52 is 2^52 more than itself.
  AERO_INLINE __m256d from_words(__m256i words, double magic) {
    return _mm256_sub_pd(_mm256_castsi256_pd(_mm256_or_si256(words, _mm256_castpd_si256(all(0x1p52)))), all(magic));
  }
  AERO_INLINE __m256i words_at(const U* p, int i) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 4 * i));
  }
  AERO_INLINE void put_words(U* p, int i, __m256i words) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + 4 * i), words);
  }
  AERO_INLINE V load(const U* p) {
    return each([=](int i) { return from_words(words_at(p, i), 0x1p52); });
  }
  AERO_INLINE void store(U* p, const V& a) {
    for (int i = 0; i < 2; ++i)
      put_words(p, i, _mm256_castpd_si256(_mm256_xor_pd(_mm256_add_pd(a.half[i], all(0x1p52)), all(0x1p52))));
  }
  AERO_INLINE V load_small(const std::int8_t* p) {
    const __m256i words = _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
    return {{_mm256_cvtepi32_pd(_mm256_castsi256_si128(words)), _mm256_cvtepi32_pd(_mm256_extracti128_si256(words, 1))}};
  }
  AERO_INLINE V load_low(const std::int64_t* p) {
    const __m256i mask = _mm256_set1_epi64x(0xffffffff);
    return each([=](int i) {
      return from_words(_mm256_and_si256(words_at(reinterpret_cast<const U*>(p), i), mask), 0x1p52);
    });
  }
  AERO_INLINE V load_high(const std::int64_t* p) {
    const __m256i sign = _mm256_set1_epi64x(static_cast<long long>(U{1} << 63));
    return each([=](int i) {
      const __m256i words = _mm256_xor_si256(words_at(reinterpret_cast<const U*>(p), i), sign);
      return from_words(_mm256_srli_epi64(words, 32), 0x1p52);
    });
  }
  AERO_INLINE V load_signed(const U* p) {
    const __m256i magic = _mm256_castpd_si256(all(0x1.8p52));
    return each([=](int i) {
      return _mm256_sub_pd(_mm256_castsi256_pd(_mm256_add_epi64(words_at(p, i), magic)), all(0x1.8p52));
    });
  }
  AERO_INLINE void store_signed(U* p, const V& a) {
    const __m256i magic = _mm256_castpd_si256(all(0x1.8p52));
    for (int i = 0; i < 2; ++i)
      put_words(p, i, _mm256_sub_epi64(_mm256_castpd_si256(_mm256_add_pd(a.half[i], all(0x1.8p52))), magic));
  }
  AERO_INLINE V set(U x) { return spread(static_cast<double>(static_cast<std::int64_t>(x))); }
  // A quotient is cut off: half a unit more, and it is off by half a unit at most.
  AERO_INLINE V load_quotient(const U* p) {
    return each([=](int i) { return from_words(words_at(p, i), 0x1p52 - 0.5); });
  }
  AERO_INLINE V set_quotient(U x) { return spread(static_cast<double>(x) + 0.5); }
  AERO_INLINE V gather(const U* base, const std::uint32_t* index) {
    return each([=](int i) {
      const __m128i at = _mm_loadu_si128(reinterpret_cast<const __m128i*>(index + 4 * i));
      return from_words(_mm256_i32gather_epi64(reinterpret_cast<const long long*>(base), at, 8), 0x1p52);
    });
  }
  AERO_INLINE V add(const V& a, const V& b) {
    return each([&](int i) { return _mm256_add_pd(a.half[i], b.half[i]); });
  }
  AERO_INLINE V sub(const V& a, const V& b) {
    return each([&](int i) { return _mm256_sub_pd(a.half[i], b.half[i]); });
  }
  AERO_INLINE V drop(const V& x, const V& q) {
    return each([&](int i) {
      const __m256d less = _mm256_sub_pd(x.half[i], q.half[i]);
      return _mm256_blendv_pd(less, x.half[i], less);  // by the sign
    });
  }
  AERO_INLINE V wrap(const V& d, const V& q) {
    return each([&](int i) { return _mm256_blendv_pd(d.half[i], _mm256_add_pd(d.half[i], q.half[i]), d.half[i]); });
  }
  template <int Bits>
  AERO_INLINE V right(const V& a) {
    const __m256d scale = all(1.0 / static_cast<double>(U{1} << Bits));
    return each([&](int i) { return _mm256_floor_pd(_mm256_mul_pd(a.half[i], scale)); });
  }
  AERO_INLINE V times(const V& x, const V& c) {
    return each([&](int i) { return _mm256_mul_pd(x.half[i], c.half[i]); });
  }
  AERO_INLINE V above(const V& a, const V& limit, const V& b) {
    return each([&](int i) { return _mm256_and_pd(_mm256_cmp_pd(a.half[i], limit.half[i], _CMP_GT_OQ), b.half[i]); });
  }
  // x w - (e - 1) q, where e is x w' / 2^52 rounded to an integer by the sum with 2^104. As w' is off by half a unit at
  // most, e is off x w / q by less than 1/2 + x / 2^53 < 1: the result is in (0, 2q). `scaled_q` is q / 2^52.
  AERO_INLINE V mul(const V& x, const V& w, const V& quotient, const V& /*q*/, const V& scaled_q) {
    return each([&](int i) {
      const __m256d e = _mm256_sub_pd(_mm256_fmadd_pd(x.half[i], quotient.half[i], all(0x1p104)), all(0x1p104 + 0x1p52));
      const __m256d h = _mm256_mul_pd(x.half[i], w.half[i]);
      const __m256d l = _mm256_fmsub_pd(x.half[i], w.half[i], h);
      return _mm256_add_pd(_mm256_fnmadd_pd(e, scaled_q.half[i], h), l);
    });
  }
  AERO_INLINE void transpose_four(__m256d& a, __m256d& b, __m256d& c, __m256d& d) {
    const __m256d t0 = _mm256_unpacklo_pd(a, b), t1 = _mm256_unpackhi_pd(a, b);
    const __m256d t2 = _mm256_unpacklo_pd(c, d), t3 = _mm256_unpackhi_pd(c, d);
    a = _mm256_permute2f128_pd(t0, t2, 0x20);
    b = _mm256_permute2f128_pd(t1, t3, 0x20);
    c = _mm256_permute2f128_pd(t0, t2, 0x31);
    d = _mm256_permute2f128_pd(t1, t3, 0x31);
  }
  AERO_INLINE void transpose(V (&a)[8]) {
    for (int half = 0; half < 2; ++half)
      for (int i = 0; i < 8; i += 4)
        transpose_four(a[i].half[half], a[i + 1].half[half], a[i + 2].half[half], a[i + 3].half[half]);
    for (int i = 0; i < 4; ++i) {
      const __m256d t = a[i].half[1];
      a[i].half[1] = a[i + 4].half[0];
      a[i + 4].half[0] = t;
    }
  }
};

struct Avx2Sums {
  using L = Avx2Lanes;
  using V = L::V;
  using U = std::uint64_t;

  // A sum modulo q, between -5q/2 and 5q/2.
  struct Sum {
    V rest = L::spread(0);
  };
  // a < 4q, b < q. e is (a b + sum) / q, off by 1 from the rounding to even integers and 3/2 from h, t and 1/q, which
  // are each off by 2^-53 of at most 2^52.
  template <typename M>
  AERO_INLINE void multiply_add(const M& m, Sum& sum, const V& a, const V& b) {
    sum.rest = L::each([&](int i) {
      const __m256d h = _mm256_mul_pd(a.half[i], b.half[i]);
      const __m256d l = _mm256_fmsub_pd(a.half[i], b.half[i], h);
      const __m256d t = _mm256_add_pd(h, sum.rest.half[i]), round = L::all(0x1p53);
      const __m256d e = _mm256_sub_pd(_mm256_fmadd_pd(t, m.reciprocal.half[i], round), round);
      const __m256d d = _mm256_fnmadd_pd(e, m.q.half[i], h);
      return _mm256_add_pd(_mm256_add_pd(d, l), sum.rest.half[i]);
    });
  }
  template <typename M>
  AERO_INLINE V finish(const M& m, const Sum& sum, const Factor (&c)[3]) {
    const V half = L::wrap(L::wrap(L::wrap(sum.rest, m.q), m.q), m.q);  // at least 0, below 5q/2
    return m.mul(half, c[0]);
  }

  // The digit to the nearest integer is right or one too large, as the inverse is cut off.
  AERO_INLINE V next_digit(V& rest, const V& q, const V& inverse) {
    V digit;
    for (int i = 0; i < 2; ++i) {
      const __m256d r = rest.half[i], fraction = _mm256_mul_pd(inverse.half[i], L::all(0x1p-52));
      const __m256d e = _mm256_sub_pd(_mm256_fmadd_pd(r, fraction, L::all(0x1p52)), L::all(0x1p52));
      const __m256d left = _mm256_fnmadd_pd(e, q.half[i], _mm256_mul_pd(r, L::all(0x1p50)));
      rest.half[i] = _mm256_blendv_pd(left, _mm256_add_pd(left, q.half[i]), left);
      digit.half[i] = _mm256_blendv_pd(e, _mm256_sub_pd(e, L::all(1)), left);
    }
    return digit;
  }

  AERO_INLINE V complement(U q) { return L::spread(static_cast<double>(q) * 0x1p-52); }
  AERO_INLINE V reciprocal(U q) { return L::spread(1 / static_cast<double>(q)); }
};

}  // namespace
}  // namespace aero
