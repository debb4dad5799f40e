// Products of numbers modulo a prime p, slot by slot: one factor encrypted, the other known, the product as two shares.
// docs/security/ole.md has the mathematics.
//
// p = 1 mod 2n, so a polynomial modulo X^n + 1 and p is its n values, the slots, and a product of polynomials is the
// product of the slots. A ciphertext modulo Q = q_0 ... q_{L-1} is (b, a) with b + a s = round(Q/p m) + noise. Arrays of
// residues are [L][count][n], prime by prime, as transforms (ntt.h) unless a comment says "coefficients".
// The last prime is dropped before a response is sent: its modulus is q' = q_0 ... q_{L-2}.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "modarith.h"
#include "ntt.h"
#include "slots_steps.h"

namespace aero {

class SlotRing {
 public:
  // Throws std::invalid_argument unless p is a prime below 2^51, there are 2 to 4 distinct other primes q_i below 2^50,
  // and all of them are 1 mod 2n.
  SlotRing(std::uint32_t n, std::uint64_t p, const std::vector<std::uint64_t>& primes);
  SlotRing(const SlotRing&) = delete;
  SlotRing& operator=(const SlotRing&) = delete;

  std::uint32_t n() const { return slots_->n(); }
  std::uint64_t p() const { return slots_->q(); }
  std::size_t primes() const { return ntts_.size(); }    // L
  std::size_t kept() const { return ntts_.size() - 1; }  // primes of a response
  std::uint64_t q(std::size_t i) const { return ntts_[i]->q(); }
  const Ntt& ntt(std::size_t i) const { return *ntts_[i]; }
  const Ntt& slots() const { return *slots_; }

  const SlotSpread& message(std::size_t i) const { return message_[i]; }  // t to t / p modulo q_i
  const SlotSpread& plain(std::size_t i) const { return plain_[i]; }      // t modulo q_i
  const SlotSpread& drop(std::size_t i) const { return drop_[i]; }        // t to t / q_{L-1} modulo q_i
  const SlotScale& scale() const { return scale_; }
  const SlotDecoder& decoder(bool of_response) const { return of_response ? response_ : whole_; }

 private:
  std::unique_ptr<Ntt> slots_;
  std::vector<std::unique_ptr<Ntt>> ntts_;
  std::vector<SlotSpread> message_, plain_, drop_;
  SlotScale scale_;
  SlotDecoder whole_, response_;
};

// A small secret's transforms: coefficients [n] to [L][n].
void slot_secret(const SlotRing&, const std::int8_t* small, std::uint64_t* out);

// b = -a s + noise + round(Q/p m): secret [L][n]; a, b [L][count][n]; noise [count][n] coefficients; slots [count][n]
// below p, or null for m = 0.
void slot_encrypt(const SlotRing&, const std::uint64_t* secret, const std::uint64_t* a, const std::int8_t* noise,
                  const std::uint64_t* slots, std::size_t count, std::uint64_t* b);

// Products of `count` ciphertexts (or of one, `count` times) with known slots, each with a fresh encryption of zero.
struct SlotProducts {
  std::size_t ciphertexts, count;  // ciphertexts is count or 1
  bool total;                      // one result, the sum over all, instead of `count`
  const std::uint64_t *b, *a;      // [L][ciphertexts][n]
  const std::uint64_t* slots;      // [count][n], below p
  const std::uint64_t *public_b, *public_a;  // [L][n], an encryption of zero
  const std::int8_t *u, *e;        // [results][n] coefficients: ternary, noise

  std::size_t results() const { return total ? 1 : count; }
};

// response [L - 1][results][n]: coefficients of a, modulo q'. share [results][n]: round(p/Q b) modulo p, in slots.
void slot_respond(const SlotRing&, const SlotProducts&, std::uint64_t* response, std::uint64_t* share);

// The other share: round(p/q' a s) modulo p, in slots. response [L - 1][count][n] coefficients, secret [L][n],
// share [count][n].
void slot_decrypt(const SlotRing&, const std::uint64_t* secret, const std::uint64_t* response, std::size_t count,
                  std::uint64_t* share);

// out = x y modulo the prime p < 2^51, `count` words below p.
void field_multiply(std::uint64_t p, const std::uint64_t* x, const std::uint64_t* y, std::size_t count,
                    std::uint64_t* out);

}  // namespace aero
