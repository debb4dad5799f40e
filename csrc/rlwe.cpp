#include "rlwe.h"

#include <algorithm>
#include <stdexcept>

#include "dispatch.h"
#include "parallel.h"
#include "rlwe_kernels.h"
#include "rlwe_residues.h"

namespace aero {
namespace {

using U = std::uint64_t;
using Wide = unsigned __int128;

constexpr RlweSteps kRlweStepsPortable = rlwe_steps<PortableLanes>();

// floor(y 2^64 / q) for y < q: y/q as a fraction of 2^64.
struct Fraction {
  U q, inverse;
  int bits = 0;
  explicit Fraction(U modulus) : q(modulus) {
    while (q >> bits) ++bits;
    inverse = static_cast<U>((Wide{1} << (63 + bits)) / q);  // below 2^64, as 2^(bits - 1) < q
  }
  U operator()(U y) const {
    U estimate = static_cast<U>((Wide{y} * inverse) >> (bits - 1));  // at most 3 too small
    U rest = 0 - estimate * q;
    for (int i = 0; i < 3; ++i) {
      const U less = rest - q, enough = ~ones_if_negative(less);
      estimate -= enough;
      rest = less + (q & ~enough);
    }
    return estimate;
  }
};

}  // namespace

const RlweSteps& rlwe_steps_in_use() {
#if AERO_X86
  if (level() >= Level::avx512) return kRlweStepsAvx512;
  if (level() >= Level::avx2) return kRlweStepsAvx2;
#endif
  return kRlweStepsPortable;
}

void multiples(U c, U q, Factor (&out)[3]) {
  for (Factor& f : out) {
    f = factor(c % q, q);
    c = mul_mod(c % q, (kWordMask + 1) % q, q);
  }
}

Scale::Scale(const Lattice& lattice, int bits)
    : mask_(bits == 64 ? ~U{0} : (U{1} << bits) - 1), half_(U{1} << (bits - 1)), big_q_(1) {
  for (std::size_t i = 0; i < lattice.primes(); ++i) {
    const U q = lattice.q(i);
    big_q_ *= q;
    reducers_.emplace_back(q);
    half_mod_.push_back(half_ % q);
    inverse_.push_back(factor(inverse_mod(pow_mod(2, static_cast<U>(bits), q), q), q));
  }
}

std::vector<std::uint32_t> automorphism(const Ntt& ntt, int log_galois) {
  std::vector<std::uint32_t> permutation(ntt.n());
  const std::uint32_t galois = (1u << log_galois) + 1;
  for (std::uint32_t p = 0; p < ntt.n(); ++p)
    permutation[p] = ntt.position(ntt.exponent(p) * galois & (2 * ntt.n() - 1));
  return permutation;
}

Lattice::Lattice(std::uint32_t n, const std::vector<U>& primes, U special) : n_(n) {
  if (special >> kLazyPrimeBits) throw std::invalid_argument("the special prime is below 2^50");
  if (primes.empty() || primes.size() > kMaxPrimes) throw std::invalid_argument("use 1 to 3 ciphertext primes");
  for (U q : primes)
    if (q >> kLazyPrimeBits) throw std::invalid_argument("ciphertext primes are below 2^50");
  for (U q : primes) ntts_.push_back(std::make_unique<Ntt>(n, q));
  ntts_.push_back(std::make_unique<Ntt>(n, special));
  for (std::size_t i = 0; i < residues(); ++i)
    for (std::size_t j = 0; j < i; ++j)
      if (q(i) == q(j) || q(i) / 2 >= q(j) || q(j) / 2 >= q(i))
        throw std::invalid_argument("the primes must be distinct and of one size");
}

void Lattice::transform_small(const std::int8_t* small, std::size_t count, U* out) const {
  for (std::size_t c = 0; c < count; ++c, small += n_)
    for (std::size_t r = 0; r < residues(); ++r, out += n_) {
      rlwe_steps_in_use().small(q(r), n_, small, out);
      ntt(r).forward(out, 1);
    }
}

void encrypt(const Lattice& lattice, std::size_t residues, const U* secret, const U* a, const std::int8_t* noise,
             const U* message, int ring_bits, std::size_t count, U* b) {
  const std::uint32_t n = lattice.n();
  const Scale scale(lattice, message ? ring_bits : 1);
  in_parallel(count, 8 * residues * n, [&](std::size_t begin, std::size_t end) {
    for (std::size_t at = begin * residues; at < end * residues; ++at) {
      const std::size_t c = at / residues, r = at % residues;
      const U q = lattice.q(r);
      U* out = b + at * n;
      rlwe_steps_in_use().small(q, n, noise + c * n, out);
      if (message)
        for (std::uint32_t i = 0; i < n; ++i) out[i] = add_mod(out[i], scale(message[c * n + i], r), q);
      lattice.ntt(r).forward(out, 1);
      Factor minus[3];
      multiples(q - 1, q, minus);
      rlwe_steps_in_use().add_product(q, n, a + at * n, secret + r * n, minus, out);
    }
  });
}

void packing_key(const Lattice& lattice, const U* secret, int log_galois, const U* a, const std::int8_t* noise, U* b) {
  const std::uint32_t n = lattice.n();
  encrypt(lattice, lattice.residues(), secret, a, noise, nullptr, 1, lattice.primes(), b);
  const auto permutation = automorphism(lattice.ntt(0), log_galois);
  for (std::size_t i = 0; i < lattice.primes(); ++i) {
    const U q = lattice.q(i);
    const Factor special = factor(lattice.special() % q, q);
    U* own = b + (i * lattice.residues() + i) * n;
    for (std::uint32_t p = 0; p < n; ++p)
      own[p] = add_mod(own[p], mul_mod(secret[i * n + permutation[p]], special, q), q);
  }
}

void respond(const Lattice& lattice, std::size_t count, U* in, const U* public_b, const U* public_a,
             const std::int8_t* u, const std::int8_t* e_b, const std::int8_t* e_a, int bits, U* b, U* a) {
  const std::uint32_t n = lattice.n();
  const std::size_t primes = lattice.primes();
  // x / Q modulo 1 is the sum over the primes of [x (Q / q_i)^-1 mod q_i] / q_i; the same with QP for b.
  std::vector<Fraction> fractions;
  std::vector<Factor> a_inverse, b_inverse, special;
  for (std::size_t i = 0; i <= primes; ++i) {
    const U q = lattice.q(i);
    U others = 1;
    for (std::size_t j = 0; j < primes; ++j)
      if (j != i) others = mul_mod(others, lattice.q(j) % q, q);
    fractions.emplace_back(q);
    a_inverse.push_back(factor(inverse_mod(others, q), q));
    if (i < primes) others = mul_mod(others, lattice.special() % q, q);
    b_inverse.push_back(factor(inverse_mod(others, q), q));
    special.push_back(factor(lattice.special() % q, q));
  }
  const U round = U{1} << (63 - bits);
  in_parallel(count, 16 * (primes + 1) * n, [&](std::size_t begin, std::size_t end) {
    std::vector<U> small(n);
    for (std::size_t c = begin; c < end; ++c) {
      U* a_in = in + c * lattice.node_size();
      U* b_in = a_in + primes * n;
      U *a_out = a + c * n, *b_out = b + c * n;
      for (std::size_t i = 0; i < primes; ++i) {
        const U q = lattice.q(i);
        rlwe_steps_in_use().small(q, n, u + c * n, small.data());
        lattice.ntt(i).forward(small.data(), 1);
        Factor one[3], by_special[3];
        multiples(1, q, one);
        multiples(lattice.special() % q, q, by_special);
        rlwe_steps_in_use().add_product(q, n, public_a + i * n, small.data(), one, a_in + i * n);
        rlwe_steps_in_use().add_product(q, n, public_b + i * n, small.data(), by_special, b_in + i * n);
        lattice.ntt(i).inverse(a_in + i * n, 1);
      }
      for (std::size_t r = 0; r <= primes; ++r) lattice.ntt(r).inverse(b_in + r * n, 1);
      std::fill(a_out, a_out + n, 0);
      std::fill(b_out, b_out + n, 0);
      for (std::size_t r = 0; r <= primes; ++r) {
        const U q = lattice.q(r);
        rlwe_steps_in_use().small(q, n, e_b + c * n, small.data());
        for (std::uint32_t p = 0; p < n; ++p) {
          U x = b_in[r * n + p];
          if (r < primes) x = add_mod(x, mul_mod(small[p], special[r], q), q);
          b_out[p] += fractions[r](mul_mod(x, b_inverse[r], q));
        }
        if (r == primes) break;
        rlwe_steps_in_use().small(q, n, e_a + c * n, small.data());
        for (std::uint32_t p = 0; p < n; ++p)
          a_out[p] += fractions[r](mul_mod(add_mod(a_in[r * n + p], small[p], q), a_inverse[r], q));
      }
      for (std::uint32_t p = 0; p < n; ++p) {
        a_out[p] = (a_out[p] + round) >> (64 - bits);
        b_out[p] = (b_out[p] + round) >> (64 - bits);
      }
    }
  });
}

void times_secret(const Lattice& lattice, std::size_t count, const U* secret, const U* a, int bits, U* out) {
  const std::uint32_t n = lattice.n();
  const U q = lattice.q(0), mask = (U{1} << bits) - 1;
  // Digits so small that a product with the secret stays between -q/2 and q/2: its coefficients are below 4 n together
  // (docs/understand/kernels-lattice.md).
  const int digit_bits = Fraction(q).bits - 3 - log2_exact(n);
  Factor one[3];
  multiples(1, q, one);
  in_parallel(count, 8 * n, [&](std::size_t begin, std::size_t end) {
    std::vector<U> digit(n), product(n);
    for (std::size_t c = begin; c < end; ++c) {
      const U* in = a + c * n;
      U* sum = out + c * n;
      std::fill(sum, sum + n, 0);
      for (int shift = 0; shift < bits; shift += digit_bits) {
        for (std::uint32_t p = 0; p < n; ++p) digit[p] = in[p] >> shift & ((U{1} << digit_bits) - 1);
        lattice.ntt(0).forward(digit.data(), 1);
        std::fill(product.begin(), product.end(), 0);
        rlwe_steps_in_use().add_product(q, n, digit.data(), secret, one, product.data());
        lattice.ntt(0).inverse(product.data(), 1);
        for (std::uint32_t p = 0; p < n; ++p) {
          const U negative = ones_if_negative(q / 2 - product[p]);
          sum[p] += (product[p] - (q & negative)) << shift;
        }
      }
      for (std::uint32_t p = 0; p < n; ++p) sum[p] &= mask;
    }
  });
}

}  // namespace aero
