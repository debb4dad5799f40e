// Runs the kernels that need no Python at every level of this processor and compares a digest of their results.
// For sanitizers and for other architectures under an emulator, where the Python tests are out of reach:
//     cmake --build build/native --target level_agreement && build/native/level_agreement
// The Python tests say what the results must be; this says that they do not depend on the level.
#include <cstdint>
#include <cstdio>
#include <vector>

#include "aes.h"
#include "bitpack.h"
#include "dispatch.h"
#include "ggm.h"
#include "leaf_ot.h"
#include "leaf_sums.h"
#include "local_code.h"
#include "ntt.h"
#include "ot_pads.h"
#include "ring.h"
#include "sample.h"
#include "slots.h"
#include "transpose.h"

namespace {

using namespace aero;

struct Digest {  // FNV-1a
  std::uint64_t value = 0xcbf29ce484222325;

  template <typename T>
  void add(const std::vector<T>& data, std::size_t count) {
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(data.data());
    for (std::size_t i = 0; i < count * sizeof(T); ++i) value = (value ^ bytes[i]) * 0x100000001b3;
  }
};

// False if a kernel refuses what another one made.
bool run(Digest& digest) {
  const std::uint8_t key[kBlockBytes] = {0x80};
  RoundKeys keys;
  expand_key(key, keys);
  for (const std::size_t n : {1, 7, 64, 1001, 33333}) {
    std::vector<std::uint64_t> words(n), unpacked(n), next;
    std::vector<std::uint8_t> bytes(8 * n);
    std::vector<std::int8_t> small(n);
    next.push_back(sample_bytes(keys, 3, n, bytes.data()));
    digest.add(bytes, n);
    next.push_back(sample_bits(keys, 3, n, bytes.data()));
    digest.add(bytes, n);
    next.push_back(sample_ternary(keys, 3, n, small.data()));
    digest.add(small, n);
    next.push_back(sample_binomial(keys, 3, n, 21, small.data()));
    digest.add(small, n);
    for (const std::uint64_t q : {std::uint64_t{1}, (std::uint64_t{1} << 50) - 27, std::uint64_t{1} << 62}) {
      next.push_back(sample_below(keys, 3, n, q, words.data()));
      digest.add(words, n);
    }
    for (int width = 1; width <= 64; ++width) {
      next.push_back(sample_ring(keys, 3, n, width, words.data()));
      if (!bit_pack(words.data(), n, width, bytes.data())) return false;
      if (!bit_unpack(bytes.data(), n, width, unpacked.data()) || unpacked != words) return false;
      digest.add(bytes, packed_bytes(n, width));
    }
    std::vector<std::uint8_t> blocks(kBlockBytes * n), hashed(kBlockBytes * n);
    sample_bytes(keys, 5, blocks.size(), blocks.data());
    aes_hash(keys, blocks.data(), words.data(), n, hashed.data());
    digest.add(hashed, hashed.size());
    digest.add(next, next.size());
  }
  for (const std::size_t row_bytes : {1, 8, 64, 77, 130}) {
    std::vector<std::uint8_t> rows(kRows * row_bytes), columns(kRows * row_bytes);
    sample_bytes(keys, 7, rows.size(), rows.data());
    transpose_128(rows.data(), 8 * row_bytes, columns.data());
    digest.add(columns, columns.size());
  }
  for (const int depth : {2, 4, 9}) {
    const std::size_t trees = 3, levels = trees * static_cast<std::size_t>(depth), n = trees << depth;
    std::vector<std::uint8_t> roots(kBlockBytes * trees), sums(kBlockBytes * levels), bits(levels);
    std::vector<std::uint8_t> leaves(kBlockBytes * n), table(kBlockBytes << 6), pads(2 * kBlockBytes * n), low(n);
    sample_bytes(keys, 11, roots.size(), roots.data());
    sample_bytes(keys, 99, table.size(), table.data());
    sample_bits(keys, 12, bits.size(), bits.data());
    const LocalCode code{keys, table.data(), 6};
    grow_trees(keys, 1, 7, trees, depth, table.data(), roots.data(), sums.data(), nullptr, nullptr);
    digest.add(sums, sums.size());
    grow_trees(keys, 1, 7, trees, depth, table.data(), roots.data(), nullptr, leaves.data(), nullptr);
    digest.add(leaves, leaves.size());
    grow_punctured_trees(keys, 1, 7, trees, depth, bits.data(), sums.data(), leaves.data(), &code);
    digest.add(leaves, leaves.size());
    sender_pads(keys, 2, 250, table.data(), leaves.data(), n, pads.data());
    digest.add(pads, pads.size());
    receiver_pads(keys, 2, 250, leaves.data(), n, low.data(), pads.data());
    digest.add(pads, pads.size());
    digest.add(low, low.size());
  }
  for (const int k : {1, 4, 8}) {
    const std::size_t groups = 2, row_bytes = 1040;
    std::vector<std::uint8_t> leaves((kBlockBytes * groups) << k), sums(groups * row_bytes);
    std::vector<std::uint8_t> rows(sums.size() * static_cast<std::size_t>(k));
    sample_bytes(keys, 13, leaves.size(), leaves.data());
    leaf_sums(leaves.data(), groups, k, 3, row_bytes, sums.data(), rows.data());
    digest.add(sums, sums.size());
    digest.add(rows, rows.size());
  }
  for (const int size : {1, 2}) {
    const std::size_t n = 1003;
    std::vector<std::uint8_t> blocks(8 * kBlockBytes * n), bits(4 * n), digits(n), corrections(n), masks(n), pads(n);
    std::vector<std::uint64_t> tables(n);
    sample_bytes(keys, 17, blocks.size(), blocks.data());
    sample_bits(keys, 18, bits.size(), bits.data());
    for (std::size_t i = 0; i < n; ++i) {
      digits[i] = blocks[i] & 15;
      masks[i] = blocks[n + i] & 3 >> (2 - size);
    }
    leaf_choices(bits.data(), blocks.data(), digits.data(), n, 4, size, corrections.data(), pads.data());
    leaf_tables(blocks.data(), digits.data(), corrections.data(), masks.data(), n, 4, size, tables.data());
    digest.add(corrections, n);
    digest.add(pads, n);
    digest.add(tables, n);
  }
  for (const std::size_t m : {1, 2, 3, 13}) {
    const std::size_t k = 300, n = 140;
    std::vector<std::uint64_t> a(2 * m * k), b(k * n), product(2 * m * n);
    sample_ring(keys, 1, a.size(), 64, a.data());
    sample_ring(keys, 999, b.size(), 64, b.data());
    ring_matmul(a.data(), m * k, b.data(), 0, product.data(), 2, m, k, n);
    digest.add(product, product.size());
  }
  const std::uint64_t p = 1256132134125569;  // 51 bits, as in aero.kernels.slots
  const std::uint32_t n = 1024;
  std::vector<std::uint64_t> primes;
  for (std::uint64_t q = (std::uint64_t{1} << 50) - 2 * n + 1; primes.size() < 4; q -= 2 * n)
    if (is_prime(q)) primes.push_back(q);
  for (const std::uint64_t q : {p, primes[0]}) {
    std::vector<std::uint64_t> a(3 * n);
    sample_below(keys, 11, a.size(), q, a.data());
    const Ntt ntt(n, q);
    ntt.forward(a.data(), 3);
    digest.add(a, a.size());
    ntt.inverse(a.data(), 3);
    digest.add(a, a.size());
  }
  const SlotRing ring(n, p, primes);
  const std::size_t count = 2, size = count * n;
  std::vector<std::uint64_t> secret(4 * n), a(4 * size), b(4 * size), slots(size), response(3 * size), share(size);
  std::vector<std::int8_t> small(size);
  sample_ternary(keys, 13, small.size(), small.data());
  slot_secret(ring, small.data(), secret.data());
  sample_below(keys, 17, a.size(), primes[3], a.data());
  sample_below(keys, 19, slots.size(), p, slots.data());
  slot_encrypt(ring, secret.data(), a.data(), small.data(), slots.data(), count, b.data());
  digest.add(b, b.size());
  for (const bool total : {false, true}) {
    const SlotProducts products{count,         count,         total,        b.data(),    a.data(), slots.data(),
                                secret.data(), secret.data(), small.data(), small.data()};
    slot_respond(ring, products, response.data(), share.data());
    digest.add(response, (total ? 1 : count) * 3 * n);
    digest.add(share, (total ? 1 : count) * n);
  }
  slot_decrypt(ring, secret.data(), response.data(), 1, share.data());
  digest.add(share, n);
  return true;
}

}  // namespace

int main() {
  std::uint64_t expected = 0;
  for (const Level level : {Level::portable, Level::armv8, Level::avx2, Level::avx512}) {
    if (!available(level)) continue;
    set_level(level);
    Digest digest;
    const bool accepted = run(digest);
    std::printf("level %d: %016llx\n", static_cast<int>(level), static_cast<unsigned long long>(digest.value));
    if (level == Level::portable) expected = digest.value;
    if (!accepted || digest.value != expected) {
      std::puts("this level differs");
      return 1;
    }
  }
}
