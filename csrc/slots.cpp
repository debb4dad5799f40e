#include "slots.h"

#include <algorithm>
#include <mutex>
#include <stdexcept>

#include "dispatch.h"
#include "parallel.h"
#include "rlwe_residues.h"
#include "slots_kernels.h"

namespace aero {
namespace {

using U = std::uint64_t;

constexpr SlotSteps kSlotStepsPortable = slot_steps<PortableLanes>();

const SlotSteps& steps() {
#if AERO_X86
  if (level() >= Level::avx512) return kSlotStepsAvx512;
  if (level() >= Level::avx2) return kSlotStepsAvx2;
#endif
  return kSlotStepsPortable;
}

SlotSpread spread(U q, U bound, U c) { return {q, (bound + q - 1) / q * q, factor(c % q, q)}; }

SlotDecoder decoder(U p, const std::vector<std::unique_ptr<Ntt>>& ntts, std::size_t count) {
  SlotDecoder d;
  d.p = p;
  d.count = count;
  for (std::size_t i = 0; i < count; ++i) {
    const U q = ntts[i]->q();
    U others = 1;
    for (std::size_t j = 0; j < count; ++j)
      if (j != i) others = mul_mod(others, ntts[j]->q() % q, q);
    SlotDecoder::Prime& prime = d.primes[i];
    prime.q = q;
    prime.to_rest = factor(mul_mod(p % q, inverse_mod(others, q), q), q);
    prime.to_whole = factor(p - inverse_mod(q % p, p), p);
    for (prime.up = 1; q * prime.up >> 50 == 0;) prime.up *= 2;
    prime.inverse = static_cast<U>((static_cast<unsigned __int128>(1) << 102) / (q * prime.up));
  }
  return d;
}

}  // namespace

SlotRing::SlotRing(std::uint32_t n, U p, const std::vector<U>& primes) : slots_(std::make_unique<Ntt>(n, p)) {
  if (primes.size() < 2 || primes.size() > kMaxSlotPrimes) throw std::invalid_argument("use 2 to 4 ciphertext primes");
  U q_mod_p = 1;
  for (U q : primes) {
    if (q >> kLazyPrimeBits || q == p) throw std::invalid_argument("ciphertext primes are below 2^50, and not p");
    for (const auto& other : ntts_)
      if (other->q() == q) throw std::invalid_argument("the primes must be distinct");
    ntts_.push_back(std::make_unique<Ntt>(n, q));
    q_mod_p = mul_mod(q_mod_p, q % p, p);
  }
  scale_ = {p, p / 2, factor(q_mod_p, p)};
  const U last = primes.back();
  for (U q : primes) {
    message_.push_back(spread(q, p / 2, inverse_mod(p % q, q)));
    plain_.push_back(spread(q, p / 2, 1));
    if (q != last) drop_.push_back(spread(q, last / 2, inverse_mod(last % q, q)));
  }
  whole_ = aero::decoder(p, ntts_, ntts_.size());
  response_ = aero::decoder(p, ntts_, ntts_.size() - 1);
}

void slot_secret(const SlotRing& ring, const std::int8_t* small, U* out) {
  for (std::size_t i = 0; i < ring.primes(); ++i, out += ring.n()) {
    rlwe_steps_in_use().small(ring.q(i), ring.n(), small, out);
    ring.ntt(i).forward(out, 1);
  }
}

void slot_encrypt(const SlotRing& ring, const U* secret, const U* a, const std::int8_t* noise, const U* slots,
                  std::size_t count, U* b) {
  const std::uint32_t n = ring.n();
  const RlweSteps& residues = rlwe_steps_in_use();
  const auto encrypt = [&](std::size_t begin, std::size_t end) {
    std::vector<U> message(n);
    for (std::size_t c = begin; c < end; ++c) {
      if (slots) {
        std::copy(slots + c * n, slots + (c + 1) * n, message.data());
        ring.slots().inverse(message.data(), 1);
        steps().scale(ring.scale(), n, message.data(), message.data());
      }
      for (std::size_t i = 0; i < ring.primes(); ++i) {
        const U q = ring.q(i);
        U* out = b + (i * count + c) * n;
        if (slots) {
          steps().spread(ring.message(i), n, message.data(), out);
          residues.add_small(q, n, noise + c * n, out);
        } else {
          residues.small(q, n, noise + c * n, out);
        }
        ring.ntt(i).forward(out, 1);
        Factor minus[3];
        multiples(q - 1, q, minus);
        residues.add_product(q, n, a + (i * count + c) * n, secret + i * n, minus, out);
      }
    }
  };
  in_parallel(count, 8 * ring.primes() * n, encrypt);
}

namespace {

// Makes responses, with room for what stands between the steps.
class Responder {
 public:
  Responder(const SlotRing& ring, const SlotProducts& products)
      : ring_(ring), p_(products), plain_(ring.n()), transform_(ring.n()), b_(ring.primes() * ring.n()),
        a_(ring.primes() * ring.n()) {
    for (std::size_t i = 0; i < ring.primes(); ++i) multiples(1, ring.q(i), one_[i]);
  }

  void clear() {
    std::fill(b_.begin(), b_.end(), 0);
    std::fill(a_.begin(), a_.end(), 0);
  }

  // Adds product g.
  void add_product(std::size_t g) {
    const std::uint32_t n = ring_.n();
    const std::size_t c = p_.ciphertexts == 1 ? 0 : g;
    std::copy(p_.slots + g * n, p_.slots + (g + 1) * n, plain_.data());
    ring_.slots().inverse(plain_.data(), 1);
    steps().centre(ring_.p(), n, plain_.data(), plain_.data());
    for (std::size_t i = 0; i < ring_.primes(); ++i) {
      steps().spread(ring_.plain(i), n, plain_.data(), transform_.data());
      ring_.ntt(i).forward(transform_.data(), 1);
      const std::size_t at = (i * p_.ciphertexts + c) * n;
      add(i, p_.b + at, p_.a + at);
    }
  }

  // Adds what another one has summed up.
  void add_sum(const Responder& other) {
    const std::uint32_t n = ring_.n();
    for (std::size_t i = 0; i < ring_.primes(); ++i)
      for (std::size_t j = i * n; j < (i + 1) * n; ++j) {
        b_[j] = add_mod(b_[j], other.b_[j], ring_.q(i));
        a_[j] = add_mod(a_[j], other.a_[j], ring_.q(i));
      }
  }

  // Turns the sum into a response and a share.
  void finish(std::size_t result, U* response, U* share) {
    const std::uint32_t n = ring_.n();
    for (std::size_t i = 0; i < ring_.primes(); ++i) {
      const U q = ring_.q(i);
      rlwe_steps_in_use().small(q, n, p_.u + result * n, transform_.data());
      ring_.ntt(i).forward(transform_.data(), 1);
      add(i, p_.public_b + i * n, p_.public_a + i * n);
      ring_.ntt(i).inverse(&b_[i * n], 1);
      ring_.ntt(i).inverse(&a_[i * n], 1);
      rlwe_steps_in_use().add_small(q, n, p_.e + result * n, &a_[i * n]);
    }
    const std::size_t last = ring_.kept();
    steps().centre(ring_.q(last), n, &a_[last * n], plain_.data());
    for (std::size_t i = 0; i < last; ++i)
      steps().drop(ring_.drop(i), n, &a_[i * n], plain_.data(), response + (i * p_.results() + result) * n);
    steps().decode(ring_.decoder(false), n, b_.data(), n, share + result * n);
    ring_.slots().forward(share + result * n, 1);
  }

 private:
  // Adds the products of (b, a) modulo prime i with transform_.
  void add(std::size_t i, const U* b, const U* a) {
    const std::uint32_t n = ring_.n();
    const RlweSteps& residues = rlwe_steps_in_use();
    residues.add_product(ring_.q(i), n, b, transform_.data(), one_[i], &b_[i * n]);
    residues.add_product(ring_.q(i), n, a, transform_.data(), one_[i], &a_[i * n]);
  }

  const SlotRing& ring_;
  const SlotProducts& p_;
  Factor one_[kMaxSlotPrimes][3];
  std::vector<U> plain_, transform_, b_, a_;
};

}  // namespace

void slot_respond(const SlotRing& ring, const SlotProducts& products, U* response, U* share) {
  const std::size_t words = 16 * ring.primes() * ring.n();
  if (!products.total) {
    in_parallel(products.count, words, [&](std::size_t begin, std::size_t end) {
      Responder responder(ring, products);
      for (std::size_t g = begin; g < end; ++g) {
        responder.clear();
        responder.add_product(g);
        responder.finish(g, response, share);
      }
    });
    return;
  }
  Responder sum(ring, products);
  std::mutex adding;
  in_parallel(products.count, words, [&](std::size_t begin, std::size_t end) {
    Responder responder(ring, products);
    for (std::size_t g = begin; g < end; ++g) responder.add_product(g);
    const std::lock_guard<std::mutex> alone(adding);
    sum.add_sum(responder);
  });
  sum.finish(0, response, share);
}

void slot_decrypt(const SlotRing& ring, const U* secret, const U* response, std::size_t count, U* share) {
  const std::uint32_t n = ring.n();
  const auto decrypt = [&](std::size_t begin, std::size_t end) {
    std::vector<U> a(n), phase(ring.kept() * n);
    for (std::size_t c = begin; c < end; ++c) {
      std::fill(phase.begin(), phase.end(), 0);
      for (std::size_t i = 0; i < ring.kept(); ++i) {
        const U* in = response + (i * count + c) * n;
        std::copy(in, in + n, a.data());
        ring.ntt(i).forward(a.data(), 1);
        Factor one[3];
        multiples(1, ring.q(i), one);
        rlwe_steps_in_use().add_product(ring.q(i), n, a.data(), secret + i * n, one, &phase[i * n]);
        ring.ntt(i).inverse(&phase[i * n], 1);
      }
      steps().decode(ring.decoder(true), n, phase.data(), n, share + c * n);
      ring.slots().forward(share + c * n, 1);
    }
  };
  in_parallel(count, 12 * ring.kept() * n, decrypt);
}

void field_multiply(U p, const U* x, const U* y, std::size_t count, U* out) {
  Factor one[3];
  multiples(1, p, one);
  const auto whole = static_cast<std::uint32_t>(std::size_t{1} << 30);  // a step counts in 32 bits
  while (count >= 8) {
    const std::uint32_t now = count < whole ? static_cast<std::uint32_t>(count & ~std::size_t{7}) : whole;
    std::fill(out, out + now, 0);
    rlwe_steps_in_use().add_product(p, now, x, y, one, out);
    x += now;
    y += now;
    out += now;
    count -= now;
  }
  U rest[3][8] = {};
  std::copy(x, x + count, rest[0]);
  std::copy(y, y + count, rest[1]);
  rlwe_steps_in_use().add_product(p, 8, rest[0], rest[1], one, rest[2]);
  std::copy(rest[2], rest[2] + count, out);
}

}  // namespace aero
