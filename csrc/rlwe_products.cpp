// Products of encrypted with plaintext matrices, and the packing of the results.
#include <algorithm>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <utility>

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
      : lattice_(lattice), scratch_((4 * lattice.primes() + 2) * std::size_t{lattice.n()}) {
    for (std::size_t i = 0; i < lattice.primes(); ++i)
      inverse_special_.push_back(factor(inverse_mod(lattice.special() % lattice.q(i), lattice.q(i)), lattice.q(i)));
  }

  // x + X^h y + automorphism(x - X^h y). `fresh`: the special residues of b are zero without having been written.
  void operator()(U* x, const U* y, bool fresh, const PackingStep& step) {
    const RlweSteps& k = rlwe_steps_in_use();
    const std::uint32_t n = lattice_.n();
    const std::size_t primes = lattice_.primes();
    U* difference = scratch_.data();
    U* lifted = difference + n;                // [L]: the digits modulo another prime
    U* values = lifted + primes * n;           // [L]: the digits as transforms
    U* coefficients = values + primes * n;     // [L]: the digits
    U* sums = coefficients + primes * n;       // [L + 1]: the switched a
    const auto split = [&](std::size_t residue, std::size_t offset) {
      const std::size_t from = residue * (n / step.run * 8);
      k.split(lattice_.q(residue), n, step.run, x + offset, y + offset, step.monomial.data() + from,
              step.monomial_q.data() + from, difference);
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
    for (std::size_t r = 0; r <= primes; ++r) {
      const U* digits[kMaxPrimes];
      for (std::size_t i = 0; i < primes; ++i) {
        digits[i] = values + i * n;
        if (r == i) continue;
        k.lift(lattice_.q(i), lattice_.q(r), n, coefficients + i * n, lifted + i * n);
        lattice_.ntt(r).forward(lifted + i * n, 1);
        digits[i] = lifted + i * n;
      }
      k.switch_key(lattice_.q(r), n, primes, digits, step.key.data() + r * primes * 2 * n, b + r * n,
                   sums + r * n);
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

// Packs up to `merge` ciphertexts to one, as they come: like a counter in base 2, so that few are held at a time.
class Packer {
 public:
  Packer(const Lattice& lattice, const PackingKeys& keys, std::size_t merge, std::uint32_t spacing, Merger& merger)
      : lattice_(lattice), keys_(keys), merger_(merger), levels_(log2_exact(merge)),
        first_step_(log2_exact(lattice.n()) - log2_exact(spacing) + 1),
        memory_(new U[(levels_ + 1) * lattice.node_size()]) {
    for (int level = 0; level <= levels_; ++level) held_.push_back(memory_.get() + level * lattice.node_size());
  }

  // Ciphertexts side by side, which may be changed; the special residues of their b need not have been written. Four are
  // joined where they stand, so that little is copied.
  void add(U* nodes, std::size_t count) {
    const std::size_t size = lattice_.node_size();
    while (count > 0) {
      int joined = 0;
      while (joined < levels_ && joined < 2 && !(count_ >> joined & 1) && (std::size_t{2} << joined) <= count) ++joined;
      const std::size_t taken = std::size_t{1} << joined;
      for (int level = 0; level < joined; ++level)
        for (std::size_t i = 0; i < taken; i += std::size_t{2} << level)
          merger_(nodes + i * size, nodes + (i + (std::size_t{1} << level)) * size, level == 0, keys_.step(first_step_ + level));
      int level = joined;
      U* node = nodes;
      for (; count_ >> level & 1; ++level) node = join(level, node);
      if (level == joined)
        std::memcpy(held_[level], node, size * sizeof(U));
      else
        std::swap(held_[level], held_[level - 1]);  // `node` is the latter
      count_ += taken;
      nodes += taken * size;
      count -= taken;
    }
  }

  // What was added since the last time, at least one, packed.
  void finish(U* out) {
    U* node = nullptr;
    if (levels_ == 0) std::memset(held_[0] + 2 * lattice_.primes() * lattice_.n(), 0, lattice_.n() * sizeof(U));
    if (count_ >> levels_) node = held_[levels_];
    else
      for (int level = 0; level < levels_; ++level)
        if (count_ >> level & 1) {
          if (node) node = join(level, node);
          else twice(lattice_, node = held_[level], level == 0);
        } else if (node) {
          twice(lattice_, node, false);
        }
    std::memcpy(out, node, lattice_.node_size() * sizeof(U));
    count_ = 0;
  }

 private:
  U* join(int level, const U* second) {
    merger_(held_[level], second, level == 0, keys_.step(first_step_ + level));
    return held_[level];
  }

  const Lattice& lattice_;
  const PackingKeys& keys_;
  Merger& merger_;
  const int levels_, first_step_;
  std::unique_ptr<U[]> memory_;
  std::vector<U*> held_;  // of 2^level ciphertexts each, where that bit of the count is set
  std::size_t count_ = 0;
};

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
  // A value of X^h is a power of psi^h, whose exponent counts modulo 2n / h: in the natural order of the transform h values
  // that follow each other are equal, and of every 64 the rows and columns of 8 x 8 are exchanged (ntt.cpp).
  const std::uint32_t h = n >> log_galois, run = h >= kRun ? h : h >= 8 ? kRun : 8 * h, different = n / run * 8;
  step->run = run;
  step->monomial.resize(residues * different);
  step->monomial_q.resize(residues * different);
  for (std::size_t r = 0; r < residues; ++r) {
    const Ntt& ntt = lattice_.ntt(r);
    std::vector<U> powers(2 * n);
    powers[0] = 1;
    for (std::size_t e = 1; e < powers.size(); ++e) powers[e] = mul_mod(powers[e - 1], ntt.psi(), ntt.q());
    for (std::uint32_t p = 0; p < different; ++p) {
      const std::uint32_t at = p / 8 * run + p % 8;
      const Factor f = factor(powers[ntt.exponent(at) * h & (2 * n - 1)], ntt.q());
      step->monomial[r * different + p] = f.value;
      step->monomial_q[r * different + p] = f.quotient;
    }
  }
  step->key.resize(primes * residues * 2 * n);
  for (std::size_t i = 0; i < primes; ++i)
    for (std::size_t r = 0; r < residues; ++r) {
      const U q = lattice_.q(r);
      const U held = rlwe_steps_in_use().key_factor(q), divide = r < primes ? inverse_mod(lattice_.special() % q, q) : 1;
      const Factor for_b = factor(held, q), for_a = factor(mul_mod(divide, held, q), q);
      const std::size_t in = (i * residues + r) * n;
      for (std::uint32_t p = 0; p < n; ++p) {
        if (a[in + p] >= q || b[in + p] >= q) throw std::invalid_argument("a packing key is not below its primes");
        U* to = &step->key[((r * (n / 8) + p / 8) * primes + i) * 16 + p % 8];
        to[0] = mul_mod(b[in + p], for_b, q);
        to[8] = mul_mod(a[in + p], for_a, q);
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
        rlwe_steps_in_use().operands(lattice.q(i), n, b_in, to, 16 * count);
        rlwe_steps_in_use().operands(lattice.q(i), n, a_in, to + 8, 16 * count);
      }
  });
}

namespace {

template <typename T>
void widen(const void* in, std::size_t count, std::int64_t* out) {
  const T* from = static_cast<const T*>(in);
  for (std::size_t i = 0; i < count; ++i) out[i] = from[i];
}

// Of three bytes each: the first, and then four bytes at a time, of which the lowest belongs to the number before.
void widen_three(const void* in, std::size_t count, std::int64_t* out) {
  const unsigned char* from = static_cast<const unsigned char*>(in);
  if (count) out[0] = from[0] | from[1] << 8 | static_cast<signed char>(from[2]) * (1 << 16);
  for (std::size_t i = 1; i < count; ++i) {
    std::int32_t four;
    std::memcpy(&four, from + 3 * i - 1, sizeof(four));
    out[i] = four >> 8;
  }
}

}  // namespace

void Columns::polynomials(std::size_t tile, std::size_t begin, std::size_t count, std::uint32_t front,
                          std::int64_t* out) const {
  const std::size_t first = tile * d2, last = std::min(first + d2, columns.size());
  std::memset(out, 0, count * front * sizeof(*out));
  for (std::size_t m = first; m < last; ++m) {
    const int bytes = columns[m].bytes;
    const auto copy = bytes == 2   ? widen<std::int16_t>
                      : bytes == 3 ? widen_three
                      : bytes == 4 ? widen<std::int32_t>
                                   : widen<std::int64_t>;
    for (std::size_t k = begin; k < begin + count; ++k)
      copy(static_cast<const char*>(columns[m].numbers) + k * d1 * bytes, std::min<std::size_t>(d1, inner - k * d1),
           out + (k - begin) * front + (m - first) * d1);
  }
}

void prepare(const Lattice& lattice, std::size_t columns, std::size_t inner, std::uint32_t front,
             const Plaintexts& weights, U* out) {
  const std::uint32_t n = lattice.n();
  const std::size_t fours = (columns + 3) / 4, four = 4 * inner * n, each = inner * front;
  in_parallel(fours, 8 * lattice.primes() * four, [&](std::size_t begin, std::size_t end) {
    std::vector<U> residues(4 * each), values(4 * n);
    std::vector<std::int64_t> made(weights.matrix ? 4 * each : 0);
    for (std::size_t c = begin; c < end; ++c) {
      const std::size_t count = std::min<std::size_t>(4, columns - 4 * c);
      for (std::size_t j = 0; weights.matrix && j < count; ++j)
        weights.matrix->polynomials(4 * c + j, 0, inner, front, &made[j * each]);
      const std::int64_t* in = weights.matrix ? made.data() : weights.polynomials + 4 * c * each;
      for (std::size_t i = 0; i < lattice.primes(); ++i) {
        rlwe_steps_in_use().residues(lattice.q(i), count * each, in, residues.data());
        std::fill(values.begin(), values.end(), 0);
        for (std::size_t k = 0; k < inner; ++k) {
          for (std::size_t j = 0; j < count; ++j)
            lattice.ntt(i).forward_front(&residues[j * each + k * front], front, &values[j * n], 1);
          U* to = out + i * fours * four + c * four + k * 32;
          for (std::size_t j = 0; j < 4; ++j)
            rlwe_steps_in_use().operands(lattice.q(i), n, &values[j * n], to + 8 * j, 32 * inner);
        }
      }
    }
  });
}

std::size_t Products::packed() const {
  if (columns >= merge) return batch * row_tiles * ((columns + merge - 1) / merge);
  return (batch * row_tiles * columns + merge - 1) / merge;
}

void products(const Lattice& lattice, const PackingKeys& keys, const Products& p, const U* x, const Plaintexts& weights,
              U* out) {
  const std::uint32_t n = lattice.n();
  const std::size_t primes = lattice.primes(), size = lattice.node_size();
  if (p.inner > kMaxInner) throw std::invalid_argument("too many tiles along the inner dimension");

  const std::size_t rows = p.row_tiles;
  const std::size_t x_size = 2 * p.row_tiles * p.inner * n;  // words per prime
  const std::size_t prepared_size = (p.columns + 3) / 4 * 4 * p.inner * n;
  const bool narrow = p.columns < p.merge;  // a run then goes on in the next row tile
  // Columns at a time: what is packed at once should be in the cache; but where transforms are walked in blocks, x is
  // read once for all of them.
  const std::size_t some = narrow && rows > 1 ? p.columns : !weights.prepared && p.front < n ? kColumnsAtOnce : 4;
  // Inner tiles at a time: of some columns, the coefficients and their transforms should be in the cache as well.
  const std::size_t tiles = weights.prepared ? p.inner : std::max<std::size_t>(1, kCoefficientsAtOnce / (some * p.front));

  // Columns `first` to first + count - 1 of one member, to nodes [rows][some].
  struct Scratch {
    std::unique_ptr<U[]> nodes, residues, block, transforms;
    std::unique_ptr<std::int64_t[]> polynomials;
  };
  const std::size_t each_column = p.inner * p.front;
  const auto scratch = [&] {
    const std::size_t coefficients = weights.prepared ? 0 : std::min(tiles, p.inner) * p.front;
    return Scratch{std::unique_ptr<U[]>(new U[rows * some * size]), std::unique_ptr<U[]>(new U[some * coefficients]),
                   std::unique_ptr<U[]>(new U[p.front]), std::unique_ptr<U[]>(new U[4 * coefficients]),
                   std::unique_ptr<std::int64_t[]>(new std::int64_t[weights.matrix ? some * coefficients : 0])};
  };
  const auto multiply = [&](std::size_t member, std::size_t first, std::size_t count, Scratch& s) {
    U* const to = s.nodes.get();
    for (std::size_t k = 0; k < p.inner; k += tiles) {
      const std::size_t present = std::min(tiles, p.inner - k), each = present * p.front;
      for (std::size_t c = 0; weights.matrix && c < count; ++c)
        weights.matrix->polynomials(first + c, k, present, p.front, s.polynomials.get() + c * each);
      for (std::size_t i = 0; i < primes; ++i) {
        const U q = lattice.q(i);
        ProductsJob job{};
        job.ntt = &lattice.ntt(i).view();
        job.row_tiles = static_cast<std::uint32_t>(rows);
        job.inner = static_cast<std::uint32_t>(present);
        job.columns = static_cast<std::uint32_t>(count);
        job.front = p.front;
        job.x_inner = static_cast<std::uint32_t>(p.inner);
        job.add = k > 0;
        job.x = x + (member * primes + i) * x_size + 16 * k;
        for (std::size_t c = 0; !weights.prepared && c < count; ++c) {
          const std::int64_t* in = weights.matrix ? s.polynomials.get() + c * each
                                                  : weights.polynomials + (member * p.columns + first + c) * each_column + k * p.front;
          rlwe_steps_in_use().residues(q, each, in, s.residues.get() + c * each);
        }
        if (weights.prepared) job.prepared = weights.prepared + (member * primes + i) * prepared_size + first * p.inner * n;
        else job.weights = s.residues.get();
        const U unmerge = inverse_mod(p.merge, q);
        multiples(unmerge, q, job.scale_a);
        multiples(mul_mod(unmerge, lattice.special() % q, q), q, job.scale_b);
        job.out_a = to + i * n;
        job.out_b = to + (primes + i) * n;
        job.row_stride = some * size;
        job.column_stride = size;
        job.block = s.block.get();
        job.transforms = s.transforms.get();
        rlwe_steps_in_use().products(job);
      }
    }
  };
  // Where there are few runs for the threads, parts of each are packed side by side, and then joined.
  const std::size_t each = rows * p.columns, all = p.batch * each;  // results
  const std::size_t wanted = threads() > 1 ? 2 * static_cast<std::size_t>(threads()) : 1;
  std::size_t run = p.merge;  // results that are packed one after the other
  while ((narrow ? all : p.batch * p.columns) < wanted * run && run / 2 >= some && (!narrow || rows == 1 || run / 2 >= each))
    run /= 2;
  const std::size_t words = 4 * rows * run * p.inner * primes * n;  // about, of one run
  const std::size_t of_row = (p.columns + run - 1) / run;
  const std::size_t runs = narrow ? (all + run - 1) / run : p.batch * rows * of_row;
  const std::unique_ptr<U[]> apart(new U[run < p.merge ? runs * size : 0]);
  U* const packed = run < p.merge ? apart.get() : out;

  if (narrow) {
    in_parallel(runs, words, [&](std::size_t begin, std::size_t end) {
      Merger merger(lattice);
      Packer packer(lattice, keys, run, p.spacing, merger);
      Scratch s = scratch();
      const std::size_t from = begin * run, to = std::min(all, end * run);
      for (std::size_t member = from / each; member * each < to; ++member)
        for (std::size_t first = 0; first < p.columns; first += some) {
          const std::size_t count = std::min(some, p.columns - first), at = member * each + first;
          if (at + each - p.columns + count <= from || at >= to) continue;
          multiply(member, first, count, s);
          for (std::size_t row = 0; row < rows; ++row)
            for (std::size_t c = 0; c < count;) {
              const std::size_t result = at + row * p.columns + c;
              if (result >= to) break;
              if (result < from) {
                c += std::min(count - c, from - result);
                continue;
              }
              const std::size_t next = std::min({result + count - c, result / run * run + run, to});
              packer.add(s.nodes.get() + (row * some + c) * size, next - result);
              if (next % run == 0 || next == all) packer.finish(packed + result / run * size);
              c += next - result;
            }
        }
    });
  } else {
    const std::size_t wide = std::max(run, some), windows = (p.columns + wide - 1) / wide;
    in_parallel(p.batch * windows, words, [&](std::size_t begin, std::size_t end) {
      Merger merger(lattice);
      std::vector<Packer> packers;
      for (std::size_t row = 0; row < rows; ++row) packers.emplace_back(lattice, keys, run, p.spacing, merger);
      Scratch s = scratch();
      for (std::size_t window = begin; window < end; ++window) {
        const std::size_t member = window / windows, start = window % windows * wide;
        const std::size_t stop = std::min(start + wide, p.columns);
        for (std::size_t first = start; first < stop; first += some) {
          const std::size_t count = std::min(some, stop - first);
          multiply(member, first, count, s);
          for (std::size_t row = 0; row < rows; ++row)
            for (std::size_t c = 0; c < count;) {
              const std::size_t column = first + c, at = (member * rows + row) * of_row + column / run;
              const std::size_t next = std::min(column + count - c, column / run * run + run);
              packers[row].add(s.nodes.get() + (row * some + c) * size, next - column);
              if (next % run == 0 || next == p.columns) packers[row].finish(packed + at * size);
              c += next - column;
            }
        }
      }
    });
  }
  if (run == p.merge) return;
  const std::size_t parts = p.merge / run, groups = (p.columns + p.merge - 1) / p.merge;
  const int first_step = log2_exact(n) - log2_exact(p.spacing) + 1 + log2_exact(run);
  in_parallel(p.packed(), words, [&](std::size_t begin, std::size_t end) {
    Merger merger(lattice);
    for (std::size_t i = begin; i < end; ++i) {
      const std::size_t first = narrow ? i * parts : i / groups * of_row + i % groups * parts;
      const std::size_t count = std::min(parts, (narrow ? runs : (i / groups + 1) * of_row) - first);
      U* const nodes = packed + first * size;
      int step = first_step;
      for (std::size_t apart_by = 1; apart_by < parts; apart_by *= 2, ++step)
        for (std::size_t at = 0; at < count; at += 2 * apart_by)
          if (at + apart_by < count) merger(nodes + at * size, nodes + (at + apart_by) * size, false, keys.step(step));
          else twice(lattice, nodes + at * size, false);
      std::memcpy(out + i * size, nodes, size * sizeof(U));
    }
  });
}

}  // namespace aero
