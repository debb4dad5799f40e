// Eight 64-bit lanes, in two forms with the same operations: portable, and AVX-512 with IFMA. The kernels in
// ntt_kernels.h and rlwe_kernels.h are written once over either. Everything here has internal linkage (see dispatch.h).
#pragma once

#include <cstddef>
#include <cstdint>

#include "modarith.h"

#if defined(__AVX512IFMA__)
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

struct PortableLanes {
  using U = std::uint64_t;
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
  AERO_INLINE V set(U x) {
    return each([=](int) { return x; });
  }
  AERO_INLINE V gather(const U* base, const std::uint32_t* index) {
    return each([=](int i) { return base[index[i]]; });
  }
  AERO_INLINE V add(const V& a, const V& b) {
    return each([&](int i) { return a.lane[i] + b.lane[i]; });
  }
  AERO_INLINE V sub(const V& a, const V& b) {
    return each([&](int i) { return a.lane[i] - b.lane[i]; });
  }
  AERO_INLINE V min(const V& a, const V& b) {
    return each([&](int i) { return a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]; });
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
  // x w - floor(x w' / 2^52) q, in [0, 2q), for any x < 2^52
  AERO_INLINE V mul(const V& x, const V& w, const V& quotient, const V& q, const V& /*minus_q*/) {
    return each([&](int i) {
      const U e = static_cast<U>((static_cast<unsigned __int128>(x.lane[i]) * quotient.lane[i]) >> kWordBits);
      return x.lane[i] * w.lane[i] - e * q.lane[i];
    });
  }
  // where a > limit: b, elsewhere zero
  AERO_INLINE V above(const V& a, const V& limit, const V& b) {
    return each([&](int i) { return a.lane[i] > limit.lane[i] ? b.lane[i] : 0; });
  }
  // Rows to columns of the 8 x 8 matrix.
  AERO_INLINE void transpose(V (&a)[8]) {
    for (int i = 0; i < 8; ++i)
      for (int j = 0; j < i; ++j) {
        const U t = a[i].lane[j];
        a[i].lane[j] = a[j].lane[i];
        a[j].lane[i] = t;
      }
  }
};

#if defined(__AVX512IFMA__)
struct Avx512Lanes {
  using U = std::uint64_t;
  using V = __m512i;

  AERO_INLINE V load(const U* p) { return _mm512_loadu_si512(p); }
  AERO_INLINE void store(U* p, V a) { _mm512_storeu_si512(p, a); }
  AERO_INLINE V set(U x) { return _mm512_set1_epi64(static_cast<long long>(x)); }
  AERO_INLINE V gather(const U* base, const std::uint32_t* index) {
    return _mm512_i32gather_epi64(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(index)), base, 8);
  }
  AERO_INLINE V add(V a, V b) { return _mm512_add_epi64(a, b); }
  AERO_INLINE V sub(V a, V b) { return _mm512_sub_epi64(a, b); }
  AERO_INLINE V min(V a, V b) { return _mm512_min_epu64(a, b); }
  AERO_INLINE V word(V a) { return _mm512_and_si512(a, set(kWordMask)); }
  AERO_INLINE V carry(V a) { return _mm512_srli_epi64(a, kWordBits); }
  template <int Bits>
  AERO_INLINE V right(V a) {
    return _mm512_srli_epi64(a, Bits);
  }
  AERO_INLINE V mul_lo(V c, V a, V b) { return _mm512_madd52lo_epu64(c, a, b); }
  AERO_INLINE V mul_hi(V c, V a, V b) { return _mm512_madd52hi_epu64(c, a, b); }
  AERO_INLINE V mul(V x, V w, V quotient, V /*q*/, V minus_q) {
    const V zero = _mm512_setzero_si512();
    const V e = _mm512_madd52hi_epu64(zero, x, quotient);
    const V product = _mm512_madd52lo_epu64(zero, x, w);
    return word(_mm512_madd52lo_epu64(product, e, minus_q));  // minus_q = 2^52 - q
  }
  AERO_INLINE V above(V a, V limit, V b) { return _mm512_maskz_mov_epi64(_mm512_cmpgt_epu64_mask(a, limit), b); }
  AERO_INLINE void transpose(V (&a)[8]) {
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

// A modulus spread over the lanes, and the reductions that every kernel needs.
template <typename L>
struct LaneModulus {
  using V = typename L::V;
  V q, twice, minus;  // q, 2q, 2^52 - q

  explicit LaneModulus(std::uint64_t modulus)
      : q(L::set(modulus)), twice(L::set(2 * modulus)), minus(L::set(kWordMask + 1 - modulus)) {}

  V mul_lazy(const V& x, const V& w, const V& quotient) const { return L::mul(x, w, quotient, q, minus); }  // [0, 2q)
  V mul_lazy(const V& x, const Factor& w) const { return mul_lazy(x, L::set(w.value), L::set(w.quotient)); }
  V mul(const V& x, const Factor& w) const { return once(mul_lazy(x, w)); }
  V once(const V& x) const { return L::min(x, L::sub(x, q)); }       // [0, 2q) -> [0, q)
  V halve(const V& x) const { return L::min(x, L::sub(x, twice)); }  // [0, 4q) -> [0, 2q)
  V full(const V& x) const { return once(halve(x)); }                // [0, 4q) -> [0, q)
  V add(const V& a, const V& b) const { return once(L::add(a, b)); }
  V sub(const V& a, const V& b) const {
    const V d = L::sub(a, b);
    return L::min(d, L::add(d, q));
  }
};

}  // namespace
}  // namespace aero
