// Products in slots, from encryption to both shares.
#include "check.h"
#include "plain.h"
#include "slots.h"

namespace aero {
namespace {

void product(Results& r, Random& random, std::uint32_t n, std::size_t kept, std::size_t ciphertexts, std::size_t count,
             bool total) {
  const U p = 1256132134125569;  // 51 bits, 1 modulo 2^14
  Words primes;
  for (U q = (U{1} << 50) - 2 * n + 1; primes.size() <= kept; q -= 2 * n)
    if (is_prime(q)) primes.push_back(q);
  const SlotRing ring(n, p, primes);
  const std::size_t size = ciphertexts * n, results = total ? 1 : count;
  Small s = random.small(n, 1), noise = random.small(size, 3), public_noise = random.small(n, 3);
  Small u = random.small(results * n, 1), e = random.small(results * n, 3);
  Words x = random.words_below(size, p), y = random.words_below(count * n, p);
  x[0] = y[0] = p - 1;
  Words expected(results * n);
  for (std::size_t i = 0; i < count * n; ++i) {
    U& sum = expected[total ? i % n : i];
    sum = plain::add(sum, plain::mul(x[ciphertexts == 1 ? i % n : i], y[i], p), p);
  }
  Words a(primes.size() * size), b(a.size()), public_a(primes.size() * n), public_b(public_a.size());
  for (std::size_t i = 0; i < a.size(); ++i) a[i] = random.below(primes[i / size]);
  for (std::size_t i = 0; i < public_a.size(); ++i) public_a[i] = random.below(primes[i / n]);
  Words key(primes.size() * n), response(kept * results * n), share(results * n), other(results * n);

  for (Small* input : {&s, &noise, &public_noise, &u, &e}) secret(*input);
  secret(x);
  secret(y);
  slot_secret(ring, s.data(), key.data());
  slot_encrypt(ring, key.data(), a.data(), noise.data(), x.data(), ciphertexts, b.data());
  slot_encrypt(ring, key.data(), public_a.data(), public_noise.data(), nullptr, 1, public_b.data());
  r.same(b);
  r.same(public_b);
  const SlotProducts products{ciphertexts,     count,           total,    b.data(), a.data(), y.data(),
                              public_b.data(), public_a.data(), u.data(), e.data()};
  slot_respond(ring, products, response.data(), share.data());
  slot_decrypt(ring, key.data(), response.data(), results, other.data());
  r.same(response);
  r.same(share);
  r.same(other);
  for (std::size_t i = 0; i < share.size(); ++i) share[i] = plain::add(share[i], other[i], p);
  r.equal(share, expected, "products in slots");
}

}  // namespace

void test_slots(Results& r) {
  Random random(1);
  product(r, random, 128, 3, 1, 1, false);
  product(r, random, 1024, 3, 2, 2, false);
  product(r, random, 1024, 3, 1, 3, true);
  product(r, random, 4096, 3, 5, 5, true);  // enough for several threads
  product(r, random, 4096, 3, 5, 5, false);
}

}  // namespace aero
