// Products of encrypted with plaintext matrices, and the packing of the results.
#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "parallel.h"
#include "rlwe.h"
#include "rlwe_residues.h"

namespace aero {
namespace {

using U = std::uint64_t;

// Joins two ciphertexts (lattice.node_size() words each) to one, in the place of the first.
class Merger {
 public:
  explicit Merger(const Lattice& lattice)
      : lattice_(lattice), scratch_((3 * lattice.primes() + 3) * std::size_t{lattice.n()}) {
    for (std::size_t i = 0; i < lattice.primes(); ++i)
      inverse_special_.push_back(factor(inverse_mod(lattice.special() % lattice.q(i), lattice.q(i)), lattice.q(i)));
  }

  // x + X^h y + automorphism(x - X^h y). `fresh`: the special residues of b are zero without having been written.
  void operator()(U* x, const U* y, bool fresh, const PackingStep& step) {
    const RlweSteps& k = rlwe_steps_in_use();
    const std::uint32_t n = lattice_.n();
    const std::size_t primes = lattice_.primes();
    U* difference = scratch_.data();
    U* lifted = difference + n;
    U* values = lifted + n;                    // [L]: the digits as transforms
    U* coefficients = values + primes * n;     // [L]: the digits
    U* sums = coefficients + primes * n;       // [L + 1]: the switched a
    const auto split = [&](std::size_t residue, std::size_t offset) {
      k.split(lattice_.q(residue), n, x + offset, y + offset, step.monomial.data() + residue * n,
              step.monomial_q.data() + residue * n, difference);
    };

    U* b = x + primes * n;
    for (std::size_t r = 0; r <= primes; ++r) {
      if (r == primes && fresh) {
        std::memset(b + r * n, 0, n * sizeof(U));
        continue;
      }
      split(r, (primes + r) * n);
      k.permute_add(lattice_.q(r), n, difference, step.permutation.data(), b + r * n);
    }
    for (std::size_t i = 0; i < primes; ++i) {
      split(i, i * n);
      k.permute(n, difference, step.permutation.data(), values + i * n);
      std::memcpy(coefficients + i * n, values + i * n, n * sizeof(U));
      lattice_.ntt(i).inverse(coefficients + i * n, 1);
    }
    std::memset(sums, 0, (primes + 1) * n * sizeof(U));
    for (std::size_t i = 0; i < primes; ++i)
      for (std::size_t r = 0; r <= primes; ++r) {
        const U* digit = values + i * n;
        if (r != i) {
          k.lift(lattice_.q(i), lattice_.q(r), n, coefficients + i * n, lifted);
          lattice_.ntt(r).forward(lifted, 1);
          digit = lifted;
        }
        const std::size_t key = (i * (primes + 1) + r) * 2 * n;
        k.multiply_add(lattice_.q(r), n, digit, step.key.data() + key, step.key_q.data() + key, b + r * n);
        k.multiply_add(lattice_.q(r), n, digit, step.key.data() + key + n, step.key_q.data() + key + n, sums + r * n);
      }
    // Division of the switched a by P: the key's a was divided modulo the primes beforehand.
    lattice_.ntt(primes).inverse(sums + primes * n, 1);
    for (std::size_t i = 0; i < primes; ++i) {
      k.lift(lattice_.special(), lattice_.q(i), n, sums + primes * n, lifted);
      lattice_.ntt(i).forward(lifted, 1);
      k.add_difference(lattice_.q(i), n, sums + i * n, lifted, inverse_special_[i], x + i * n);
    }
  }

 private:
  const Lattice& lattice_;
  std::vector<U> scratch_;
  std::vector<Factor> inverse_special_;
};

// What joining does to the coefficients of x that count: with no other ciphertext, those beside them stay as they are.
void twice(const Lattice& lattice, U* x, bool fresh) {
  const std::uint32_t n = lattice.n();
  const std::size_t primes = lattice.primes(), parts = 2 * primes + 1;  // a, b, and b's special residues
  if (fresh) std::memset(x + 2 * primes * n, 0, n * sizeof(U));
  for (std::size_t part = 0; part < parts; ++part)
    rlwe_steps_in_use().twice(lattice.q(part < primes ? part : part - primes), n, x + part * n);
}

// Packs `merge` ciphertexts, of which the first `present` are there, into the place of the first.
void pack(const Lattice& lattice, const PackingKeys& keys, std::size_t merge, std::size_t present,
          std::uint32_t spacing, Merger& join, U* nodes) {
  const std::size_t size = lattice.node_size();
  if (merge == 1) std::memset(nodes + size - lattice.n(), 0, lattice.n() * sizeof(U));
  int log_galois = log2_exact(lattice.n()) - log2_exact(spacing);
  for (std::size_t half = merge / 2; half; half /= 2) {
    const PackingStep& step = keys.step(++log_galois);
    const bool fresh = 2 * half == merge;
    for (std::size_t i = 0; i < std::min(half, present); ++i)
      if (i + half < present)
        join(nodes + i * size, nodes + (i + half) * size, fresh, step);
      else
        twice(lattice, nodes + i * size, fresh);
    present = std::min(half, present);
  }
}

}  // namespace

PackingKeys::PackingKeys(const Lattice& lattice) : lattice_(lattice), steps_(log2_exact(lattice.n()) + 1) {}

bool PackingKeys::has(int log_galois) const {
  return log_galois >= 0 && log_galois < static_cast<int>(steps_.size()) && steps_[log_galois];
}

const PackingStep& PackingKeys::step(int log_galois) const {
  if (!has(log_galois)) throw std::invalid_argument("the packing keys lack a step that this product needs");
  return *steps_[log_galois];
}

void PackingKeys::add(int log_galois, const U* a, const U* b) {
  const std::uint32_t n = lattice_.n();
  const std::size_t primes = lattice_.primes(), residues = lattice_.residues();
  if (log_galois < 1 || log_galois >= static_cast<int>(steps_.size()))
    throw std::invalid_argument("no such packing step");
  auto step = std::make_unique<PackingStep>();
  step->permutation = automorphism(lattice_.ntt(0), log_galois);
  step->monomial.resize(residues * n);
  step->monomial_q.resize(residues * n);
  const std::uint32_t h = n >> log_galois;
  for (std::size_t r = 0; r < residues; ++r) {
    const Ntt& ntt = lattice_.ntt(r);
    std::vector<U> powers(2 * n);
    powers[0] = 1;
    for (std::size_t e = 1; e < powers.size(); ++e) powers[e] = mul_mod(powers[e - 1], ntt.psi(), ntt.q());
    for (std::uint32_t p = 0; p < n; ++p) {
      const Factor f = factor(powers[ntt.exponent(p) * h & (2 * n - 1)], ntt.q());
      step->monomial[r * n + p] = f.value;
      step->monomial_q[r * n + p] = f.quotient;
    }
  }
  step->key.resize(primes * residues * 2 * n);
  step->key_q.resize(primes * residues * 2 * n);
  for (std::size_t i = 0; i < primes; ++i)
    for (std::size_t r = 0; r < residues; ++r) {
      const U q = lattice_.q(r);
      const Factor divide = factor(r < primes ? inverse_mod(lattice_.special() % q, q) : 1, q);
      const std::size_t in = (i * residues + r) * n;
      for (std::uint32_t p = 0; p < n; ++p) {
        if (a[in + p] >= q || b[in + p] >= q) throw std::invalid_argument("a packing key is not below its primes");
        const Factor fb = factor(b[in + p], q), fa = factor(mul_mod(a[in + p], divide, q), q);
        step->key[2 * in + p] = fb.value;
        step->key_q[2 * in + p] = fb.quotient;
        step->key[2 * in + n + p] = fa.value;
        step->key_q[2 * in + n + p] = fa.quotient;
      }
    }
  steps_[log_galois] = std::move(step);
}

void arrange(const Lattice& lattice, std::size_t row_tiles, std::size_t inner, const U* b, const U* a, const U* addend,
             int ring_bits, U* out) {
  const std::uint32_t n = lattice.n();
  const std::size_t primes = lattice.primes(), count = row_tiles * inner;
  const Scale scale(lattice, addend ? ring_bits : 1);
  in_parallel(count, 8 * primes * n, [&](std::size_t begin, std::size_t end) {
    std::vector<U> sum(n);
    for (std::size_t c = begin; c < end; ++c)
      for (std::size_t i = 0; i < primes; ++i) {
        const U *b_in = b + (c * primes + i) * n, *a_in = a + (c * primes + i) * n;
        if (addend) {
          for (std::uint32_t p = 0; p < n; ++p) sum[p] = scale(addend[c * n + p], i);
          lattice.ntt(i).forward(sum.data(), 1);
          for (std::uint32_t p = 0; p < n; ++p) sum[p] = add_mod(sum[p], b_in[p], lattice.q(i));
          b_in = sum.data();
        }
        U* to = out + (i * (n / 8) * count + c) * 16;
        for (std::uint32_t v = 0; v < n / 8; ++v, to += 16 * count) {
          std::memcpy(to, b_in + 8 * v, 8 * sizeof(U));
          std::memcpy(to + 8, a_in + 8 * v, 8 * sizeof(U));
        }
      }
  });
}

void prepare(const Lattice& lattice, std::size_t columns, std::size_t inner, std::uint32_t front,
             const std::int64_t* weights, U* out) {
  const std::uint32_t n = lattice.n();
  const std::size_t fours = (columns + 3) / 4, per_prime = fours * 4 * inner * n;
  std::memset(out, 0, lattice.primes() * per_prime * sizeof(U));
  for (std::size_t i = 0; i < lattice.primes(); ++i, out += per_prime) {
    const Reducer reduce(lattice.q(i));
    in_parallel(columns, 8 * inner * n, [&](std::size_t begin, std::size_t end) {
      std::vector<U> coefficients(front), values(n);
      for (std::size_t c = begin; c < end; ++c)
        for (std::size_t k = 0; k < inner; ++k) {
          const std::int64_t* in = weights + (c * inner + k) * front;
          for (std::uint32_t p = 0; p < front; ++p) coefficients[p] = reduce.of_signed(in[p]);
          lattice.ntt(i).forward_front(coefficients.data(), front, values.data(), 1);
          U* to = out + ((c / 4 * (n / 8) * inner + k) * 4 + c % 4) * 8;
          for (std::uint32_t v = 0; v < n / 8; ++v, to += 32 * inner) std::memcpy(to, &values[8 * v], 8 * sizeof(U));
        }
    });
  }
}

std::size_t Products::packed() const {
  if (columns >= merge) return batch * row_tiles * ((columns + merge - 1) / merge);
  return (batch * row_tiles * columns + merge - 1) / merge;
}

void products(const Lattice& lattice, const PackingKeys& keys, const Products& p, const U* x,
              const std::int64_t* weights, const U* prepared, U* out) {
  const std::uint32_t n = lattice.n();
  const std::size_t primes = lattice.primes(), size = lattice.node_size();
  if (p.inner > kMaxInner) throw std::invalid_argument("too many tiles along the inner dimension");

  // Results stand in a window of nodes before they are packed: some columns of one member of the batch, or where one
  // row tile does not fill a packed ciphertext, everything.
  const bool narrow = p.columns < p.merge;
  const std::size_t rows = p.row_tiles, wide = narrow ? p.columns : std::max<std::size_t>(p.merge, 16);
  const std::size_t x_size = 2 * p.row_tiles * p.inner * n;  // words per prime
  const std::size_t prepared_size = (p.columns + 3) / 4 * 4 * p.inner * n;

  // Columns `first` to first + count - 1 of one member, to nodes [rows][wide].
  const auto multiply = [&](std::size_t member, std::size_t first, std::size_t count, U* to) {
    std::vector<U> residues(weights ? count * p.inner * p.front : 0);
    std::vector<U> block(weights ? p.front : 0), transforms(weights ? 4 * p.inner * p.front : 0);
    for (std::size_t i = 0; i < primes; ++i) {
      const U q = lattice.q(i);
      ProductsJob job{};
      job.ntt = &lattice.ntt(i).view();
      job.row_tiles = static_cast<std::uint32_t>(rows);
      job.inner = static_cast<std::uint32_t>(p.inner);
      job.columns = static_cast<std::uint32_t>(count);
      job.front = p.front;
      job.x = x + (member * primes + i) * x_size;
      if (weights) {
        const Reducer reduce(q);
        const std::int64_t* in = weights + (member * p.columns + first) * p.inner * p.front;
        for (std::size_t w = 0; w < count * p.inner * p.front; ++w) residues[w] = reduce.of_signed(in[w]);
        job.weights = residues.data();
      } else {
        job.prepared = prepared + (member * primes + i) * prepared_size + first * p.inner * n;
      }
      const U unmerge = inverse_mod(p.merge, q);
      multiples(unmerge, q, job.scale_a);
      multiples(mul_mod(unmerge, lattice.special() % q, q), q, job.scale_b);
      job.out_a = to + i * n;
      job.out_b = to + (primes + i) * n;
      job.row_stride = wide * size;
      job.column_stride = size;
      job.block = block.data();
      job.transforms = transforms.data();
      rlwe_steps_in_use().products(job);
    }
  };
  const auto finish = [&](Merger& join, U* first, std::size_t present, U* to) {
    pack(lattice, keys, p.merge, present, p.spacing, join, first);
    std::memcpy(to, first, size * sizeof(U));
  };
  const std::size_t words = 4 * rows * wide * p.inner * primes * n;  // of one window

  if (narrow) {
    std::vector<U> nodes(p.batch * rows * wide * size);
    in_parallel(p.batch, words, [&](std::size_t begin, std::size_t end) {
      for (std::size_t member = begin; member < end; ++member)
        multiply(member, 0, p.columns, nodes.data() + member * rows * wide * size);
    });
    const std::size_t all = p.batch * rows * p.columns;
    in_parallel(p.packed(), 64 * p.merge * size, [&](std::size_t begin, std::size_t end) {
      Merger join(lattice);
      for (std::size_t i = begin; i < end; ++i)
        finish(join, nodes.data() + i * p.merge * size, std::min(p.merge, all - i * p.merge), out + i * size);
    });
    return;
  }
  const std::size_t groups = (p.columns + p.merge - 1) / p.merge, windows = (p.columns + wide - 1) / wide;
  in_parallel(p.batch * windows, words, [&](std::size_t begin, std::size_t end) {
    std::vector<U> nodes(rows * wide * size);
    Merger join(lattice);
    for (std::size_t window = begin; window < end; ++window) {
      const std::size_t member = window / windows, first = window % windows * wide;
      const std::size_t count = std::min(wide, p.columns - first);
      multiply(member, first, count, nodes.data());
      for (std::size_t row = 0; row < rows; ++row) {
        U* to = out + ((member * rows + row) * groups + first / p.merge) * size;
        for (std::size_t i = 0; i < count; i += p.merge, to += size)
          finish(join, nodes.data() + (row * wide + i) * size, std::min(p.merge, count - i), to);
      }
    }
  });
}

}  // namespace aero
