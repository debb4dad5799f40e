// Matrix products modulo 2^64, powers and products modulo primes.
#include <cmath>

#include "check.h"
#include "field_power.h"
#include "plain.h"
#include "ring.h"
#include "slots.h"

namespace aero {
namespace {

void products(Results& r) {
  Random random(1);
  struct Shape {
    std::size_t batch, m, k, n;
  };
  // Few rows and many, inside and past the blocks of 256 x 128; the last is enough for several threads.
  for (const Shape s : {Shape{1, 1, 3, 5}, Shape{2, 2, 300, 17}, Shape{2, 3, 260, 140}, Shape{1, 13, 64, 130},
                        Shape{1, 72, 300, 140}})
    for (const bool shared : {false, true}) {
      Words a = random.words(s.batch * s.m * s.k), b = random.words((shared ? 1 : s.batch) * s.k * s.n);
      Words out(s.batch * s.m * s.n), expected(out.size());
      const std::size_t b_step = shared ? 0 : s.k * s.n;
      for (std::size_t g = 0; g < s.batch; ++g)
        for (std::size_t i = 0; i < s.m; ++i)
          for (std::size_t d = 0; d < s.k; ++d)
            for (std::size_t j = 0; j < s.n; ++j)
              expected[(g * s.m + i) * s.n + j] += a[(g * s.m + i) * s.k + d] * b[g * b_step + d * s.n + j];
      secret(a);
      secret(b);
      ring_matmul(a.data(), s.m * s.k, b.data(), b_step, out.data(), s.batch, s.m, s.k, s.n);
      r.equal(out, expected, "ring_matmul");
    }
}

// The exponent's whole part exactly, and 2^t to the polynomial's 2^-27 and the rounding of the mantissa.
void powers(Results& r) {
  Random random(2);
  const U p = 1256132134125569;  // 51 bits, as in aero.kernels.slots
  r.check(plain::power(2, U{1} << kExponentBits, p) == 1, "2 has an order that divides 2^13");
  for (const int fraction_bits : {0, 5, 16, 32}) {
    const int mantissa_bits = 16;
    const std::size_t n = 200;
    Words exponents = random.words_below(n, U{1} << (kExponentBits + fraction_bits)), out(n);
    const Words known = exponents;
    secret(exponents);
    field_power(exponents.data(), n, fraction_bits, mantissa_bits, p, out.data());
    r.same(out);
    bool close = true;
    for (std::size_t i = 0; i < n; ++i) {
      const U e = known[i] >> fraction_bits, inverse = plain::power(plain::power(2, e, p), p - 2, p);
      const double t = std::ldexp(static_cast<double>(known[i] - (e << fraction_bits)), -fraction_bits);
      const double mantissa = static_cast<double>(plain::mul(out[i], inverse, p));
      close &= std::abs(mantissa - std::ldexp(std::exp2(t), mantissa_bits)) <= 0.5 + std::ldexp(1.0, mantissa_bits - 26);
    }
    r.check(close, "field_power");
  }
}

void field_products(Results& r) {
  Random random(3);
  for (const U p : {U{12289}, U{1256132134125569}})
    for (const std::size_t n : {1, 8, 21}) {
      Words x = random.words_below(n, p), y = random.words_below(n, p), out(n), expected(n);
      x[0] = y[0] = p - 1;
      for (std::size_t i = 0; i < n; ++i) expected[i] = plain::mul(x[i], y[i], p);
      secret(x);
      secret(y);
      field_multiply(p, x.data(), y.data(), n, out.data());
      r.equal(out, expected, "field_multiply");
    }
}

}  // namespace

void test_ring(Results& r) {
  products(r);
  powers(r);
  field_products(r);
}

}  // namespace aero
