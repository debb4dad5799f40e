// The steps of slots_steps.h, written once over either kind of lanes (modarith_lanes.h).
#pragma once

#include "modarith_lanes.h"
#include "slots_steps.h"

namespace aero {
namespace {

template <typename L>
struct SlotKernels {
  using V = typename L::V;
  using U = std::uint64_t;
  using M = LaneModulus<L>;

  static void scale(const SlotScale& s, std::uint32_t n, const U* x, U* t) {
    const M m(s.p);
    const V half = L::set(s.half);
    for (std::uint32_t i = 0; i < n; i += L::kCount)
      L::store_signed(t + i, L::sub(half, m.add(m.mul(L::load(x + i), s.q_mod_p), half)));
  }
  static void centre(U p, std::uint32_t n, const U* x, U* t) {
    const V half = L::set(p / 2), whole = L::set(p);
    for (std::uint32_t i = 0; i < n; i += L::kCount) {
      const V v = L::load(x + i);
      L::store_signed(t + i, L::sub(v, L::above(v, half, whole)));
    }
  }
  static void spread(const SlotSpread& s, std::uint32_t n, const U* t, U* out) {
    const M m(s.q);
    const V offset = L::set(s.offset);
    for (std::uint32_t i = 0; i < n; i += L::kCount) L::store(out + i, m.mul(L::add(L::load_signed(t + i), offset), s.c));
  }
  static void drop(const SlotSpread& s, std::uint32_t n, const U* x, const U* t, U* out) {
    const M m(s.q);
    const V offset = L::set(s.offset);
    for (std::uint32_t i = 0; i < n; i += L::kCount)
      L::store(out + i, m.mul(L::sub(L::add(L::load(x + i), offset), L::load_signed(t + i)), s.c));
  }

  static void decode(const SlotDecoder& d, std::uint32_t n, const U* x, std::size_t stride, U* out) {
    const M p(d.p);
    for (std::uint32_t i = 0; i < n; i += L::kCount) {
      V sum = L::set(0), high = L::set(U{1} << (kDigitBits - 1)), low = L::set(0);
      for (std::size_t k = 0; k < d.count; ++k) {
        const SlotDecoder::Prime& prime = d.primes[k];
        const M m(prime.q);
        const V r = m.mul(L::load(x + k * stride + i), prime.to_rest), q = L::set(prime.q * prime.up);
        sum = p.add(sum, p.mul(r, prime.to_whole));
        V rest = L::times(r, L::set(prime.up));
        high = L::add(high, L::Sums::next_digit(rest, q, L::set(prime.inverse)));
        low = L::add(low, L::Sums::next_digit(rest, q, L::set(prime.inverse)));
      }
      const V rounded = L::template right<kDigitBits>(L::add(high, L::template right<kDigitBits>(low)));
      L::store(out + i, p.add(sum, rounded));
    }
  }

 private:
  static constexpr int kDigitBits = 50;
};

template <typename L>
constexpr SlotSteps slot_steps() {
  using K = SlotKernels<L>;
  return {K::scale, K::centre, K::spread, K::drop, K::decode};
}

}  // namespace
}  // namespace aero
