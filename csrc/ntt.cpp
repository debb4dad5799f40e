#include "ntt.h"

#include <stdexcept>

#include "dispatch.h"
#include "ntt_kernels.h"

namespace aero {
namespace {

std::uint32_t bit_reverse(std::uint32_t i, int bits) {
  std::uint32_t r = 0;
  for (int b = 0; b < bits; ++b) r |= (i >> b & 1) << (bits - 1 - b);
  return r;
}

// How many numbers the roots of one direction are.
std::size_t table_size(std::uint32_t n) { return 2 * std::size_t{n} + std::size_t{112} * (n / kRun); }

// The powers of psi in bit-reversed order, `pair` of each, and the tail from them.
template <typename Number, typename Pair>
Roots<Number> fill(std::uint64_t psi, std::uint64_t q, std::uint32_t n, Pair pair, Number* table) {
  int bits = 0;
  while ((1u << bits) < n) ++bits;
  std::uint64_t power = 1;
  for (std::uint32_t i = 0; i < n; ++i, power = mul_mod(power, psi, q)) {
    const std::uint32_t at = bit_reverse(i, bits);
    pair(power, table[at], table[n + at]);
  }
  for (std::uint32_t run = 0; run < n / kRun; ++run)
    for (int k = 0; k < 3; ++k)
      for (std::uint32_t group = 0; group < (1u << k); ++group)
        for (std::uint32_t lane = 0; lane < 8; ++lane) {
          const std::uint32_t i = ((n / kRun + run) << (3 + k)) + (lane << k) + group;
          Number* to = table + 2 * std::size_t{n} + 112 * std::size_t{run} + 16 * ((1u << k) - 1 + group);
          to[lane] = table[i];
          to[8 + lane] = table[n + i];
        }
  return {table, table + n, table + 2 * std::size_t{n}};
}

}  // namespace

bool is_prime(std::uint64_t n) {
  if (n < 2) return false;
  // Bases that settle Miller-Rabin for every 64-bit number (Sorenson and Webster, 2015).
  constexpr std::uint64_t bases[] = {2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37};
  for (std::uint64_t p : bases)
    if (n % p == 0) return n == p;
  std::uint64_t d = n - 1;
  int s = 0;
  for (; d % 2 == 0; d /= 2) ++s;
  for (std::uint64_t base : bases) {
    std::uint64_t x = pow_mod(base, d, n);
    bool composite = x != 1 && x != n - 1;
    for (int i = 1; i < s && composite; ++i) {
      x = mul_mod(x, x, n);
      composite = x != n - 1;
    }
    if (composite) return false;
  }
  return true;
}

Ntt::Ntt(std::uint32_t n, std::uint64_t q) {
  if (n < 128 || n > 32768 || (n & (n - 1))) throw std::invalid_argument("n must be a power of two from 128 to 32768");
  if (q >> kMaxPrimeBits || q % (2 * std::uint64_t{n}) != 1 || !is_prime(q))
    throw std::invalid_argument("the modulus must be a prime below 2^51 that is 1 modulo 2n");
  // The smallest g whose power is a primitive 2n-th root of unity: the same on every machine.
  for (std::uint64_t g = 2; !psi_; ++g) {
    const std::uint64_t candidate = pow_mod(g, (q - 1) / (2 * std::uint64_t{n}), q);
    if (pow_mod(candidate, n, q) == q - 1) psi_ = candidate;
  }
  const auto words = [q](std::uint64_t w, std::uint64_t& root, std::uint64_t& quotient) {
    const Factor f = factor(w, q);
    root = f.value;
    quotient = f.quotient;
  };
  const auto doubles = [q](std::uint64_t w, double& root, double& quotient) {
    root = centred(w, q);
    quotient = root / static_cast<double>(q);
  };
  const std::size_t size = table_size(n);
  const std::uint64_t inverse_psi = inverse_mod(psi_, q), inverse_n = inverse_mod(n, q);
  tables_.resize(2 * size);
  double_tables_.resize(2 * size);
  view_.n = n;
  view_.q = q;
  view_.words = fill(psi_, q, n, words, tables_.data());
  view_.inverse_words = fill(inverse_psi, q, n, words, tables_.data() + size);
  view_.doubles = fill(psi_, q, n, doubles, double_tables_.data());
  view_.inverse_doubles = fill(inverse_psi, q, n, doubles, double_tables_.data() + size);
  view_.inverse_n = factor(inverse_n, q);
  view_.inverse_n_root = factor(mul_mod(inverse_n, view_.inverse_words.root[1], q), q);

  int bits = 0;
  while ((1u << bits) < n) ++bits;
  exponents_.resize(n);
  positions_.resize(n);
  for (std::uint32_t p = 0; p < n; ++p) {
    const std::uint32_t row = p / 8 % 8, column = p % 8;
    const std::uint32_t e = 2 * bit_reverse(p / kRun * kRun + 8 * column + row, bits) + 1;
    exponents_[p] = e;
    positions_[e / 2] = p;
  }
}

void Ntt::forward(std::uint64_t* a, std::size_t count) const {
  for (std::size_t i = 0; i < count; ++i, a += n()) {
#if AERO_X86
    if (level() >= Level::avx512) {
      ntt_forward_avx512(view_, a);
      continue;
    }
    if (level() >= Level::avx2) {
      ntt_forward_avx2(view_, a);
      continue;
    }
#endif
    ntt_forward_portable(view_, a);
  }
}

void Ntt::inverse(std::uint64_t* a, std::size_t count) const {
  for (std::size_t i = 0; i < count; ++i, a += n()) {
#if AERO_X86
    if (level() >= Level::avx512) {
      ntt_inverse_avx512(view_, a);
      continue;
    }
    if (level() >= Level::avx2) {
      ntt_inverse_avx2(view_, a);
      continue;
    }
#endif
    ntt_inverse_portable(view_, a);
  }
}

void Ntt::forward_front(const std::uint64_t* in, std::uint32_t front, std::uint64_t* out, std::size_t count) const {
  for (std::size_t i = 0; i < count; ++i, in += front, out += n()) {
#if AERO_X86
    if (level() >= Level::avx512) {
      ntt_front_avx512(view_, in, front, out);
      continue;
    }
    if (level() >= Level::avx2) {
      ntt_front_avx2(view_, in, front, out);
      continue;
    }
#endif
    ntt_front_portable(view_, in, front, out);
  }
}

void ntt_forward_portable(const NttView& t, std::uint64_t* a) { forward_transform<PortableLanes>(t, a); }

void ntt_inverse_portable(const NttView& t, std::uint64_t* a) { inverse_transform<PortableLanes>(t, a); }

void ntt_front_portable(const NttView& t, const std::uint64_t* in, std::uint32_t front, std::uint64_t* out) {
  forward_front<PortableLanes>(t, in, front, out);
}

}  // namespace aero
