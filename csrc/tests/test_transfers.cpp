// Oblivious transfer: trees, the code, pads, sums over leaves, tables of small transfers, the checks' hash.
#include "aes.h"
#include "check.h"
#include "ggm.h"
#include "gf128.h"
#include "leaf_ot.h"
#include "leaf_sums.h"
#include "local_code.h"
#include "ot_pads.h"
#include "plain.h"

namespace aero {
namespace {

Bytes block(const std::uint8_t* from) { return Bytes(from, from + 16); }

Bytes exclusive_or(const std::uint8_t* x, const std::uint8_t* y) {
  Bytes out(16);
  for (std::size_t i = 0; i < 16; ++i) out[i] = x[i] ^ y[i];
  return out;
}

void add_to(Bytes& sum, const std::uint8_t* x) { sum = exclusive_or(sum.data(), x); }

void append(Bytes& to, const Bytes& from) { to.insert(to.end(), from.begin(), from.end()); }

// AES under AES_S(2^56 domain + index).
plain::Aes derived(const Bytes& session, U domain, U index) {
  return plain::Aes(plain::stream(session.data(), (domain << 56) + index, 1).data());
}

// One level of a half-tree: the nodes x to H(x) and x ^ H(x).
Bytes children(const plain::Aes& pi, const Bytes& nodes) {
  Bytes out;
  for (std::size_t at = 0; at < nodes.size(); at += 16) {
    std::uint8_t mixed[16], h[16];
    for (std::size_t i = 0; i < 8; ++i) {
      mixed[i] = nodes[at + 8 + i];
      mixed[8 + i] = nodes[at + i] ^ nodes[at + 8 + i];
    }
    pi.encrypt(mixed, h);
    for (std::size_t i = 0; i < 16; ++i) h[i] ^= mixed[i];
    append(out, block(h));
    append(out, exclusive_or(h, &nodes[at]));
  }
  return out;
}

// Ten places of a table, named by the code's stream.
Bytes code_output(const Bytes& code_stream, const Bytes& table, int log_size, std::size_t number) {
  Bytes sum(16);
  for (std::size_t l = 0; l < kCodeWeight; ++l) {
    const U word = plain::word_of(&code_stream[8 * (4 * number + l / 3)]);
    const std::size_t place = static_cast<std::size_t>(word >> (21 * (l % 3))) & ((std::size_t{1} << log_size) - 1);
    add_to(sum, &table[16 * place]);
  }
  return sum;
}

// The table of a sender, whose blocks have the lowest bit zero, and that of its receiver: v and v ^ bit delta.
struct Tables {
  Bytes sender, receiver;
};
Tables correlated(Random& random, const Bytes& delta, std::size_t count) {
  Tables t;
  for (std::size_t i = 0; i < count; ++i) {
    Bytes v = random.bytes(16);
    v[0] &= 254;
    append(t.sender, v);
    append(t.receiver, random.below(2) ? exclusive_or(v.data(), delta.data()) : v);
  }
  return t;
}

// Whole trees and trees without a leaf, and through the code: silent OT's correlation, z = y ^ (lowest bit of z) delta.
void trees(Results& r) {
  Random random(1);
  constexpr U kDomain = 200, kFirst = 7;
  for (const int depth : {2, 3, 5, 9})
    for (const bool coded : {false, true}) {
      const std::size_t count = 3, width = std::size_t{1} << depth, levels = static_cast<std::size_t>(depth);
      const Bytes session = random.bytes(16), code_key = random.bytes(16);
      Bytes delta = random.bytes(16), roots = random.bytes(16 * count);
      delta[0] |= 1;
      const int log_size = 6;
      Tables tables = correlated(random, delta, std::size_t{1} << log_size);
      const Bytes code_stream = plain::stream(code_key.data(), 0, 2 * width * (kFirst + count));

      Bytes expected_sums, expected, expected_punctured, sides, side_sums;
      for (std::size_t tree = 0; tree < count; ++tree) {
        const plain::Aes pi = derived(session, kDomain, kFirst + tree);
        const std::size_t hole = random.below(width);
        Bytes nodes = block(&roots[16 * tree]);
        append(nodes, exclusive_or(nodes.data(), delta.data()));
        for (int level = 1; level <= depth; ++level) {
          if (level > 1) nodes = children(pi, nodes);
          Bytes sum[2] = {Bytes(16), Bytes(16)};
          for (std::size_t j = 0; j < nodes.size() / 16; ++j) add_to(sum[j % 2], &nodes[16 * j]);
          append(expected_sums, sum[0]);
          const std::size_t known = 1 - (hole >> (depth - level) & 1);
          sides.push_back(static_cast<std::uint8_t>(known));
          append(side_sums, sum[known]);
        }
        for (std::size_t j = 0; j < width; ++j) {
          nodes[16 * j] &= 254;
          Bytes leaf = block(&nodes[16 * j]), other = leaf;
          if (j == hole) {
            add_to(other, delta.data());
            other[0] |= 1;
          }
          if (coded) {
            const std::size_t number = width * (kFirst + tree) + j;
            add_to(leaf, code_output(code_stream, tables.sender, log_size, number).data());
            add_to(other, code_output(code_stream, tables.receiver, log_size, number).data());
          }
          append(expected, leaf);
          append(expected_punctured, other);
        }
      }
      for (std::size_t j = 0; j < expected.size(); j += 16) {
        Bytes y = block(&expected[j]);
        if (expected_punctured[j] & 1) add_to(y, delta.data());
        r.check(y == block(&expected_punctured[j]), "silent OT's correlation");
      }

      RoundKeys keys, code_keys;
      expand_key(session.data(), keys);
      expand_key(code_key.data(), code_keys);
      const LocalCode of_sender{code_keys, tables.sender.data(), log_size};
      const LocalCode of_receiver{code_keys, tables.receiver.data(), log_size};
      Bytes sums(16 * count * levels), leaves(16 * count * width);
      for (Bytes* input : {&delta, &roots, &tables.sender, &tables.receiver, &sides, &side_sums}) secret(*input);
      grow_trees(keys, kDomain, kFirst, count, depth, delta.data(), roots.data(), sums.data(), nullptr, nullptr);
      r.equal(sums, expected_sums, "grow_trees, sums");
      grow_trees(keys, kDomain, kFirst, count, depth, delta.data(), roots.data(), nullptr, leaves.data(),
                 coded ? &of_sender : nullptr);
      r.equal(leaves, expected, "grow_trees, leaves");
      grow_punctured_trees(keys, kDomain, kFirst, count, depth, sides.data(), side_sums.data(), leaves.data(),
                           coded ? &of_receiver : nullptr);
      r.equal(leaves, expected_punctured, "grow_punctured_trees");
    }
}

void pads(Results& r) {
  Random random(2);
  constexpr U kDomain = 3;
  struct Case {
    U first;
    std::size_t n;
  };
  for (const Case c : {Case{0, 1}, Case{250, 20}, Case{256, 16}, Case{512, 544}, Case{255, 300}}) {
    const Bytes session = random.bytes(16);
    Bytes delta = random.bytes(16), k = random.bytes(16 * c.n);
    Bytes expected, expected_one, bits(c.n), expected_bits(c.n), out(32 * c.n), out_one(16 * c.n);
    for (std::size_t i = 0; i < c.n; ++i) {
      const plain::Aes pi = derived(session, kDomain, (c.first + i) / kOtsPerKey);
      const U tweak = (kDomain << 56) + c.first + i;
      Bytes h(16);
      plain::hash(pi, &k[16 * i], tweak, h.data());
      append(expected, h);
      append(expected_one, h);
      plain::hash(pi, exclusive_or(&k[16 * i], delta.data()).data(), tweak, h.data());
      append(expected, h);
      expected_bits[i] = k[16 * i] & 1;
    }
    RoundKeys keys;
    expand_key(session.data(), keys);
    secret(delta);
    secret(k);
    sender_pads(keys, kDomain, c.first, delta.data(), k.data(), c.n, out.data());
    r.equal(out, expected, "sender_pads");
    receiver_pads(keys, kDomain, c.first, k.data(), c.n, bits.data(), out_one.data());
    r.equal(out_one, expected_one, "receiver_pads");
    r.equal(bits, expected_bits, "receiver_pads, bits");
  }
}

void sums_over_leaves(Results& r) {
  Random random(3);
  for (const int k : {1, 2, 4, 8}) {
    const std::size_t groups = 2, row_bytes = k == 2 ? 2080 : 48, leaves = std::size_t{1} << k;
    Bytes keys = random.bytes(16 * groups * leaves);
    Bytes sums(groups * row_bytes), rows(sums.size() * static_cast<std::size_t>(k));
    Bytes expected_sums(sums.size()), expected_rows(rows.size());
    for (std::size_t g = 0; g < groups; ++g)
      for (std::size_t x = 0; x < leaves; ++x) {
        const Bytes stream = plain::stream(&keys[16 * (g * leaves + x)], 3, row_bytes / 16);
        for (std::size_t i = 0; i < row_bytes; ++i) {
          expected_sums[g * row_bytes + i] ^= stream[i];
          for (std::size_t b = 0; b < static_cast<std::size_t>(k); ++b)
            if (x >> b & 1) expected_rows[(g * static_cast<std::size_t>(k) + b) * row_bytes + i] ^= stream[i];
        }
      }
    secret(keys);
    leaf_sums(keys.data(), groups, k, 3, row_bytes, sums.data(), rows.data());
    r.equal(sums, expected_sums, "leaf_sums, sums");
    r.equal(rows, expected_rows, "leaf_sums, rows");
  }
}

// Tables entry by entry, and what the receiver opens.
void small_transfers(Results& r) {
  Random random(4);
  const std::size_t n = 67;
  for (const int width : {1, 2, 3, 4})
    for (const int size : {1, 2}) {
      const std::size_t w = static_cast<std::size_t>(width);
      const U entry = (U{1} << size) - 1;
      const auto message = [&](unsigned a, unsigned b, unsigned mask) {
        return ((static_cast<U>(b < a) | static_cast<U>(b == a) << 1) & entry) ^ mask;
      };
      Bytes pairs = random.bytes(32 * n * w), choices = random.bytes(n * w, 2), chosen;
      Bytes a = random.bytes(n, U{1} << width), b = random.bytes(n, U{1} << width), masks = random.bytes(n, U{1} << size);
      Bytes corrections(n), expected_corrections(n), pads(n), opened(n), expected_opened(n);
      Words tables(n), expected(n);
      for (std::size_t i = 0; i < n * w; ++i) append(chosen, block(&pairs[32 * i + 16 * choices[i]]));
      for (std::size_t k = 0; k < n; ++k) {
        unsigned c = 0;
        for (std::size_t i = 0; i < w; ++i) c |= static_cast<unsigned>(choices[w * k + i]) << i;
        const unsigned d = b[k] ^ c;
        expected_corrections[k] = static_cast<std::uint8_t>(d);
        expected_opened[k] = static_cast<std::uint8_t>(message(a[k], b[k], masks[k]));
        for (unsigned j = 0; j < 1u << width; ++j) {
          const unsigned at = static_cast<unsigned>(size) * j;
          U pad = 0;
          for (std::size_t i = 0; i < w; ++i) pad ^= plain::word_of(&pairs[32 * (w * k + i) + 16 * (j >> i & 1)]);
          expected[k] |= (message(a[k], j ^ d, masks[k]) ^ ((pad >> at) & entry)) << at;
        }
      }
      for (Bytes* input : {&pairs, &choices, &chosen, &a, &b, &masks}) secret(*input);
      leaf_choices(choices.data(), chosen.data(), b.data(), n, width, size, corrections.data(), pads.data());
      r.equal(corrections, expected_corrections, "leaf_choices");
      leaf_tables(pairs.data(), a.data(), corrections.data(), masks.data(), n, width, size, tables.data());
      r.equal(tables, expected, "leaf_tables");
      leaf_open(tables.data(), b.data(), corrections.data(), pads.data(), n, size, opened.data());
      r.equal(opened, expected_opened, "leaf_open");
      r.same(pads);
    }
}

// Inner products, each product bit by bit: times X and reduced, for each bit of the other factor.
void inner_products(Results& r) {
  Random random(6);
  for (const std::size_t n : {1, 2, 3, 4, 5, 64, 67}) {
    const std::size_t rows = 3;
    Bytes x = random.bytes(16 * n), y = random.bytes(16 * n * rows), out(16 * rows), picked(16 * rows);
    for (std::size_t i = 0; i < 16; ++i) x[i] = y[i] = 255;
    Bytes expected, expected_picked;
    for (std::size_t row = 0; row < rows; ++row) {
      Bytes sum(16), chosen(16);
      for (std::size_t j = 0; j < n; ++j) {
        const std::uint8_t* factor = &y[16 * (row * n + j)];
        if (factor[0] & 1) add_to(chosen, &x[16 * j]);
        Bytes power = block(&x[16 * j]);
        for (std::size_t bit = 0; bit < 128; ++bit) {
          if (factor[bit / 8] >> bit % 8 & 1) add_to(sum, power.data());
          const int over = power[15] >> 7;
          for (std::size_t i = 15; i > 0; --i) power[i] = static_cast<std::uint8_t>(power[i] << 1 | power[i - 1] >> 7);
          power[0] = static_cast<std::uint8_t>(power[0] << 1 ^ (over ? 0x87 : 0));
        }
      }
      append(expected, sum);
      append(expected_picked, chosen);
    }
    secret(x);
    secret(y);
    gf128_dot(x.data(), y.data(), rows, n, out.data(), picked.data());
    r.equal(out, expected, "gf128_dot");
    r.equal(picked, expected_picked, "gf128_dot, picked");
  }
}

// Enough work for several threads; only compared.
void many(Results& r) {
  Random random(5);
  const std::size_t n = std::size_t{1} << 15, trees = 5;
  const int depth = 13;
  const Bytes session = random.bytes(16);
  Bytes delta = random.bytes(16), roots = random.bytes(16 * trees), table = random.bytes(16 << 10), bits(n), out(32 * n);
  Bytes sides = random.bytes(trees * static_cast<std::size_t>(depth), 2), sums(16 * sides.size());
  Bytes leaves(16 * trees << depth);
  RoundKeys keys;
  expand_key(session.data(), keys);
  const LocalCode code{keys, table.data(), 10};
  grow_trees(keys, 1, 2, trees, depth, delta.data(), roots.data(), sums.data(), leaves.data(), &code);
  r.same(sums);
  r.same(leaves);
  sender_pads(keys, 1, 77, delta.data(), leaves.data(), n, out.data());
  r.same(out);
  receiver_pads(keys, 1, 77, leaves.data(), n, bits.data(), out.data());
  r.same(out);
  grow_punctured_trees(keys, 1, 2, trees, depth, sides.data(), sums.data(), leaves.data(), &code);
  r.same(leaves);
  Bytes products(16 * trees), picked(16 * trees);
  gf128_dot(leaves.data(), leaves.data(), trees, std::size_t{1} << depth, products.data(), picked.data());
  r.same(products);
  r.same(picked);
}

}  // namespace

void test_transfers(Results& r) {
  trees(r);
  pads(r);
  sums_over_leaves(r);
  small_transfers(r);
  inner_products(r);
  many(r);
}

}  // namespace aero
