// Transforms, and matrix products under RLWE from encryption to decryption.
#include "check.h"
#include "ntt.h"
#include "plain.h"
#include "rlwe.h"

namespace aero {
namespace {

// The largest primes of that many bits that are 1 modulo 2n.
Words primes_of(std::uint32_t n, int bits, std::size_t count) {
  Words out;
  for (U q = (U{1} << bits) - 2 * n + 1; out.size() < count; q -= 2 * n)
    if (is_prime(q)) out.push_back(q);
  return out;
}

// The value at psi^exponent, by Horner's rule.
U value_at(const U* coefficients, std::size_t n, U point, U q) {
  U sum = 0;
  for (std::size_t i = n; i-- > 0;) sum = plain::add(plain::mul(sum, point, q), coefficients[i] % q, q);
  return sum;
}

void transforms(Results& r) {
  Random random(1);
  for (const int bits : {20, 50, 51})  // from 2^50 on sums are kept tighter
    for (const std::uint32_t n : {128, 256, 512, 1024, 4096, 32768}) {
      const U q = primes_of(n, bits, 1)[0];
      const Ntt ntt(n, q);
      r.check(plain::power(ntt.psi(), n, q) == q - 1, "psi is a primitive root of unity");
      Words a = random.words_below(2 * n, 2 * q);  // inputs need not be reduced
      a[0] = a[1] = 2 * q - 1;
      const Words coefficients = a;
      Words reduced = a;
      for (U& x : reduced) x %= q;
      secret(a);
      ntt.forward(a.data(), 2);
      r.same(a);
      const std::uint32_t step = n <= 128 ? 1 : n / 16 + 1;  // all values, or some
      for (std::uint32_t p = 0; p < n; p += step)
        for (std::size_t row = 0; row < 2; ++row)
          r.check(a[row * n + p] == value_at(&coefficients[row * n], n, plain::power(ntt.psi(), ntt.exponent(p), q), q),
                  "Ntt::forward");
      Words values = a;
      for (std::size_t i = 0; i < values.size(); i += 3) values[i] += q;
      secret(values);
      ntt.inverse(values.data(), 2);
      r.equal(values, reduced, "Ntt::inverse");
      for (std::uint32_t front = kRun; front <= n; front *= 4) {
        Words in = random.words_below(front, q), padded(n), out(n);
        std::copy(in.begin(), in.end(), padded.begin());
        ntt.forward(padded.data(), 1);
        secret(in);
        ntt.forward_front(in.data(), front, out.data(), 1);
        r.equal(out, padded, "Ntt::forward_front");
      }
    }
}

// Ciphertexts of x times plaintexts w, packed and answered, against the products as polynomials.
struct Case {
  std::uint32_t n;
  std::size_t primes, batch, row_tiles, inner, columns, merge;
  std::uint32_t front, spacing;
  bool prepared, addend, matrix;
};

void product(Results& r, Random& random, const Case& c) {
  constexpr int kRingBits = 41, kBits = 25;
  const std::size_t n = c.n, ciphertexts = c.batch * c.row_tiles * c.inner, residues = c.primes + 1;
  const Words primes = primes_of(c.n, 49, residues);
  const Lattice lattice(c.n, Words(primes.begin() + 1, primes.end()), primes[0]);

  Small s = random.small(n, 1), noise = random.small(n * ciphertexts, 3);
  Words key(residues * n), a(ciphertexts * c.primes * n), b(a.size());
  for (std::size_t i = 0; i < a.size(); ++i) a[i] = random.below(lattice.q(i / n % c.primes));
  Words x = random.words(n * ciphertexts), addend = random.words(n * ciphertexts), total = x;
  auto weights = random.centred<std::int64_t>(c.batch * c.columns * c.inner * c.front, 15);
  const auto known_weights = weights;
  const Small known_s = s;
  for (std::size_t i = 0; c.addend && i < total.size(); ++i) total[i] += addend[i];
  secret(s);
  secret(noise);
  secret(x);
  secret(addend);
  secret(weights);
  lattice.transform_small(s.data(), 1, key.data());
  encrypt(lattice, c.primes, key.data(), a.data(), noise.data(), x.data(), kRingBits, ciphertexts, b.data());
  r.same(b);  // it is sent

  // The keys that packing needs, one for each halving of the spacing; and an encryption of zero.
  PackingKeys keys(lattice);
  int log_n = 0, log_spacing = 0, log_merge = 0;
  while (std::size_t{1} << log_n < n) ++log_n;
  while (1u << log_spacing < c.spacing) ++log_spacing;
  while (std::size_t{1} << log_merge < c.merge) ++log_merge;
  for (int step = 0; step < log_merge; ++step) {
    const int galois = log_n - log_spacing + 1 + step;
    Words key_a(c.primes * residues * n), key_b(key_a.size());
    for (std::size_t i = 0; i < key_a.size(); ++i) key_a[i] = random.below(lattice.q(i / n % residues));
    Small key_noise = random.small(c.primes * n, 3);
    secret(key_noise);
    packing_key(lattice, key.data(), galois, key_a.data(), key_noise.data(), key_b.data());
    r.same(key_b);
    keys.add(galois, key_a.data(), key_b.data());
  }
  Words public_a(c.primes * n), public_b(public_a.size());
  for (std::size_t i = 0; i < public_a.size(); ++i) public_a[i] = random.below(lattice.q(i / n));
  Small public_noise = random.small(n, 3);
  secret(public_noise);
  encrypt(lattice, c.primes, key.data(), public_a.data(), public_noise.data(), nullptr, 1, 1, public_b.data());
  r.same(public_b);

  Words arranged(2 * b.size());
  const std::size_t each = c.row_tiles * c.inner;
  for (std::size_t g = 0; g < c.batch; ++g)
    arrange(lattice, c.row_tiles, c.inner, &b[g * each * c.primes * n], &a[g * each * c.primes * n],
            c.addend ? &addend[g * each * n] : nullptr, kRingBits, &arranged[2 * g * each * c.primes * n]);
  // The matrix of which these polynomials are made, in full tiles.
  const std::uint32_t d2 = c.front / c.spacing;
  std::vector<std::int32_t> numbers(c.matrix ? weights.size() : 0);
  Columns matrix{{}, c.inner * c.spacing, c.spacing, d2};
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    const std::size_t k = i / c.front % c.inner, j = i % c.front / c.spacing, column = i / c.front / c.inner * d2 + j;
    numbers[column * matrix.inner + k * c.spacing + i % c.spacing] = static_cast<std::int32_t>(weights[i]);
  }
  std::vector<unsigned char> three;  // every other column has 24 bits a number
  for (std::int32_t number : numbers)
    for (int bits : {0, 8, 16}) three.push_back(static_cast<unsigned char>(number >> bits));
  for (std::size_t i = 0; i < numbers.size(); i += matrix.inner) {
    if (i / matrix.inner % 2) matrix.columns.push_back({&three[3 * i], 3});
    else matrix.columns.push_back({&numbers[i], 4});
  }
  const std::size_t prepared_size = c.primes * ((c.columns + 3) / 4 * 4) * c.inner * n;
  Words prepared(c.prepared ? c.batch * prepared_size : 0);
  for (std::size_t g = 0; c.prepared && g < c.batch; ++g)
    prepare(lattice, c.columns, c.inner, c.front,
            c.matrix ? Plaintexts{nullptr, &matrix, nullptr}
                     : Plaintexts{&weights[g * c.columns * c.inner * c.front], nullptr, nullptr},
            &prepared[g * prepared_size]);
  const Products p{c.batch, c.row_tiles, c.inner, c.columns, c.merge, c.front, c.spacing};
  Words packed(p.packed() * lattice.node_size());
  products(lattice, keys, p, arranged.data(),
           c.prepared ? Plaintexts{nullptr, nullptr, prepared.data()}
           : c.matrix ? Plaintexts{nullptr, &matrix, nullptr}
                      : Plaintexts{weights.data(), nullptr, nullptr},
           packed.data());

  const std::size_t count = p.packed();
  Small u = random.small(count * n, 1), e_b = random.small(count * n, 3), e_a = random.small(count * n, 3);
  Words sent(count * n), share(count * n), phase(count * n);
  secret(u);
  secret(e_b);
  secret(e_a);
  respond(lattice, count, packed.data(), public_b.data(), public_a.data(), u.data(), e_b.data(), e_a.data(), kBits,
          share.data(), sent.data());
  r.same(share);
  r.same(sent);
  times_secret(lattice, count, key.data(), sent.data(), kBits, phase.data());
  r.same(phase);
  open(s);
  Words secret_words(n), exact(count * n);
  for (std::size_t i = 0; i < n; ++i) secret_words[i] = static_cast<U>(static_cast<std::int64_t>(known_s[i]));
  for (std::size_t g = 0; g < count; ++g) {
    const Words product = plain::times(Words(&sent[g * n], &sent[g * n] + n), secret_words);
    for (std::size_t i = 0; i < n; ++i) exact[g * n + i] = product[i] & ((U{1} << kBits) - 1);
  }
  r.check(phase == exact, "times_secret");

  // The error in steps of 2^-kBits: the rounding of `sent`, at most half a step, times s, n terms, and the other
  // rounding; upload noise times weights, and packing's, are below one step together.
  const std::int64_t bound = static_cast<std::int64_t>(n / 2) + 2;
  bool close = true;
  for (std::size_t g = 0; g < c.batch; ++g)
    for (std::size_t row = 0; row < c.row_tiles; ++row)
      for (std::size_t column = 0; column < c.columns; ++column) {
        Words sum(n);
        for (std::size_t k = 0; k < c.inner; ++k) {
          const U* own = &total[((g * c.row_tiles + row) * c.inner + k) * n];
          const std::int64_t* w = &known_weights[((g * c.columns + column) * c.inner + k) * c.front];
          const Words part = plain::times(Words(own, own + n), Words(w, w + c.front));
          for (std::size_t i = 0; i < n; ++i) sum[i] += part[i];
        }
        const bool narrow = c.columns < c.merge;
        const std::size_t result = (g * c.row_tiles + row) * c.columns + column;
        const std::size_t run = narrow ? result / c.merge
                                       : (g * c.row_tiles + row) * ((c.columns + c.merge - 1) / c.merge) + column / c.merge;
        const std::size_t place = (narrow ? result : column) % c.merge;
        std::size_t offset = 0;
        for (int bit = 0; bit < log_merge; ++bit) offset += (place >> bit & 1) * (c.spacing >> (bit + 1));
        for (std::size_t i = 0; i < n; i += c.spacing) {
          const std::size_t at = run * n + i + offset;
          const U got = (share[at] + phase[at]) << (64 - kBits), wanted = sum[i] << (64 - kRingBits);
          const std::int64_t off = static_cast<std::int64_t>(got - wanted) / (std::int64_t{1} << (64 - kBits));
          close &= -bound <= off && off <= bound;
        }
      }
  r.check(close, "products of ciphertexts with plaintexts");
}

}  // namespace

void test_lattice(Results& r) {
  transforms(r);
  Random random(2);
  //                n  primes batch rows inner columns merge front spacing prepared addend matrix
  product(r, random, {256, 1, 1, 1, 2, 3, 1, 256, 1, false, false, false});
  product(r, random, {256, 1, 1, 2, 2, 9, 4, 64, 64, false, true, false});
  product(r, random, {256, 2, 2, 2, 3, 3, 8, 64, 128, false, false, false});
  product(r, random, {256, 3, 1, 1, 1, 21, 4, 128, 16, false, true, false});
  product(r, random, {512, 2, 1, 2, 2, 6, 2, 64, 32, true, false, false});
  product(r, random, {2048, 1, 3, 2, 2, 20, 4, 64, 2048, false, false, false});
  product(r, random, {256, 2, 1, 2, 3, 5, 4, 128, 32, false, true, true});
  product(r, random, {256, 1, 1, 1, 2, 6, 2, 256, 256, true, false, true});
}

}  // namespace aero
