// RLWE ciphertexts for matrix products: encryption under a ternary secret, products with plaintext matrices, packing of
// the results by automorphisms, and the switch to a power-of-two modulus. The mathematics:
// docs/understand/kernels-lattice.md.
//
// A ciphertext modulo Q = q_0 ... q_{L-1} is a pair (b, a) with b + a s = message + noise. Polynomials are residues
// [prime][n], as transforms (ntt.h) unless a comment says "coefficients". The special prime P is index L: keys live
// modulo QP. While results are packed, b is kept multiplied by P and modulo QP, so that only a is ever divided by P.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "modarith.h"
#include "ntt.h"

namespace aero {

// Sums of this many products of residues fit the accumulators of a matrix product (rlwe_kernels.h).
constexpr std::uint32_t kMaxInner = 2048;
constexpr std::size_t kMaxPrimes = 3;  // of ciphertexts

// The ring Z[X]/(X^n + 1) modulo L ciphertext primes and a special prime, and constants between them.
class Lattice {
 public:
  // Throws std::invalid_argument unless there are 1 to 3 primes, all distinct and none twice another.
  Lattice(std::uint32_t n, const std::vector<std::uint64_t>& primes, std::uint64_t special);
  Lattice(const Lattice&) = delete;
  Lattice& operator=(const Lattice&) = delete;

  std::uint32_t n() const { return n_; }
  std::size_t primes() const { return ntts_.size() - 1; }     // L
  std::size_t residues() const { return ntts_.size(); }       // L + 1
  const Ntt& ntt(std::size_t i) const { return *ntts_[i]; }
  std::uint64_t q(std::size_t i) const { return ntts_[i]->q(); }
  std::uint64_t special() const { return ntts_.back()->q(); }
  std::size_t node_size() const { return (2 * primes() + 1) * n_; }  // words: a [L][n], then b [L + 1][n]

  // Centred small coefficients to transforms modulo all L + 1 primes: [count][n] to [count][L + 1][n].
  void transform_small(const std::int8_t* small, std::size_t count, std::uint64_t* out) const;

 private:
  std::uint32_t n_;
  std::vector<std::unique_ptr<Ntt>> ntts_;
};

// b = -a s + noise + round(Q message / 2^ring_bits), or without the last term where message is null.
// secret [residues][n], a and b [count][residues][n] are transforms modulo the first `residues` primes;
// noise [count][n] and message [count][n] (its low ring_bits bits count) are coefficients.
void encrypt(const Lattice&, std::size_t residues, const std::uint64_t* secret, const std::uint64_t* a,
             const std::int8_t* noise, const std::uint64_t* message, int ring_bits, std::size_t count,
             std::uint64_t* b);

// The b parts [L][L + 1][n] of the key that switches a ciphertext back to the secret [L + 1][n] after the automorphism
// X -> X^(2^log_galois + 1); a [L][L + 1][n], noise [L][n] coefficients.
void packing_key(const Lattice&, const std::uint64_t* secret, int log_galois, const std::uint64_t* a,
                 const std::int8_t* noise, std::uint64_t* b);

// What one step of the packing needs: it joins two ciphertexts whose wanted coefficients stand at multiples of 2 h
// into one with wanted coefficients at multiples of h, where h = n / 2^log_galois.
struct PackingStep {
  std::vector<std::uint32_t> permutation;             // of the automorphism on transforms
  std::uint32_t run;                                  // values for which the same eight of X^h come over and over
  std::vector<std::uint64_t> monomial, monomial_q;    // X^h and its quotients, [L + 1][n / run][8]
  std::vector<std::uint64_t> key;                     // [L + 1][n / 8][L digits][b, a][8], in the form of switch_key
};

class PackingKeys {
 public:
  explicit PackingKeys(const Lattice&);  // which must outlive it
  PackingKeys(const PackingKeys&) = delete;
  PackingKeys& operator=(const PackingKeys&) = delete;
  // a, b as in packing_key(). Throws std::invalid_argument unless every value is below its prime.
  void add(int log_galois, const std::uint64_t* a, const std::uint64_t* b);
  bool has(int log_galois) const;
  const Lattice& lattice() const { return lattice_; }
  const PackingStep& step(int log_galois) const;  // throws std::invalid_argument if it was not added

 private:
  const Lattice& lattice_;
  std::vector<std::unique_ptr<PackingStep>> steps_;
};

// Ciphertexts b, a [row_tiles][inner][L][n] to the order that products() streams through, and to the form that the
// instruction set in use multiplies fastest:
// [L][n / 8][row_tiles][inner][b, a][8]. Where `addend` [row_tiles][inner][n] (coefficients modulo 2^ring_bits) is not
// null, it is added to the messages.
void arrange(const Lattice&, std::size_t row_tiles, std::size_t inner, const std::uint64_t* b, const std::uint64_t* a,
             const std::uint64_t* addend, int ring_bits, std::uint64_t* out);

// A plaintext matrix as it is, by its columns, each of `inner` whole numbers in a row. In tiles of d1 x d2, entry c of column
// m is coefficient (m % d2) d1 + c % d1 of the polynomial [m / d2][c / d1].
struct Columns {
  struct Column {
    const void* numbers;
    int bytes;  // of a number: 2, 3, 4 or 8, lowest first
  };
  std::vector<Column> columns;
  std::size_t inner;
  std::uint32_t d1, d2;

  // Polynomials of a column tile, those of `count` inner tiles from `begin` on: [count][front].
  void polynomials(std::size_t tile, std::size_t begin, std::size_t count, std::uint32_t front, std::int64_t* out) const;
};

// The plaintexts of products, in one of three forms, the others null: polynomials [batch][columns][inner][front], whose
// other coefficients are zero; a matrix of which they are made, for a batch of one; transforms, prepare()d, one after the
// other for the batch.
struct Plaintexts {
  const std::int64_t* polynomials = nullptr;
  const Columns* matrix = nullptr;
  const std::uint64_t* prepared = nullptr;
};

// Plaintexts of a batch of one, in one of the first two forms, to transforms in the order and form of products():
// [L][columns / 4 rounded up][n / 8][inner][4][8].
void prepare(const Lattice&, std::size_t columns, std::size_t inner, std::uint32_t front, const Plaintexts&,
             std::uint64_t* out);

// A batch of products of row_tiles x inner ciphertexts with inner x columns plaintexts, and their packing, `merge`
// (a power of two) results to one. The results, counted by batch, then row tile, then column, are packed in runs of
// `merge`; a run does not cross a row tile where one has `merge` columns or more. `spacing` is the distance of the wanted
// coefficients before packing.
struct Products {
  std::size_t batch, row_tiles, inner, columns, merge;
  std::uint32_t front, spacing;

  std::size_t packed() const;  // how many ciphertexts come out
};

// x: arrange()d, one after the other for the batch. out [packed()][node_size()].
void products(const Lattice&, const PackingKeys&, const Products&, const std::uint64_t* x, const Plaintexts&,
              std::uint64_t* out);

// Adds to each of `count` results a fresh public-key encryption of zero and switches it to the modulus 2^bits:
// public_b, public_a [L][n]; masks u, e_b, e_a [count][n] coefficients (u ternary, e noise).
// a, b [count][n]: coefficients modulo 2^bits. `in` [count][node_size()] is overwritten.
void respond(const Lattice&, std::size_t count, std::uint64_t* in, const std::uint64_t* public_b,
             const std::uint64_t* public_a, const std::int8_t* u, const std::int8_t* e_b, const std::int8_t* e_a,
             int bits, std::uint64_t* b, std::uint64_t* a);

// a s modulo 2^bits, for a [count][n] coefficients modulo 2^bits and the secret's transform modulo q_0.
void times_secret(const Lattice&, std::size_t count, const std::uint64_t* secret, const std::uint64_t* a, int bits,
                  std::uint64_t* out);

}  // namespace aero
