// The fully bitsliced cipher: each of the 128 bits of the state has a vector of its own, which holds that bit of 128 blocks.
// So ShiftRows and the places of MixColumns are only names of vectors: what is computed is the S-box circuit and XORs.
#include "aes_wide.h"

#include <cstring>

#include "aes_planes.h"

namespace aero {
namespace {

typedef std::uint8_t Bytes __attribute__((vector_size(16)));

// Bit j of byte b of all blocks is p[b][j]. Block 16 g + i is bit 8 i + g of the vectors.
struct State {
  Lanes p[kBlockBytes][8];
};

#if defined(__clang__)
inline Bytes low_bytes(Bytes a, Bytes b) {
  return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
inline Bytes high_bytes(Bytes a, Bytes b) {
  return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}
#else
inline Bytes low_bytes(Bytes a, Bytes b) {
  return __builtin_shuffle(a, b, Bytes{0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23});
}
inline Bytes high_bytes(Bytes a, Bytes b) {
  return __builtin_shuffle(a, b, Bytes{8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31});
}
#endif

// Transposes 16 x 16 bytes: interleaving each vector of the first half with its like in the second half is a quarter of
// the way.
inline void transpose_bytes(Bytes (&v)[16]) {
  Bytes w[16];
  for (int twice = 0; twice < 2; ++twice) {
    for (int i = 0; i < 8; ++i) {
      w[2 * i] = low_bytes(v[i], v[i + 8]);
      w[2 * i + 1] = high_bytes(v[i], v[i + 8]);
    }
    for (int i = 0; i < 8; ++i) {
      v[2 * i] = low_bytes(w[i], w[i + 8]);
      v[2 * i + 1] = high_bytes(w[i], w[i + 8]);
    }
  }
}

void load(const std::uint8_t* blocks, State& s) {
  for (std::size_t g = 0; g < 8; ++g) {
    Bytes v[16];
    std::memcpy(v, blocks + 256 * g, sizeof v);
    transpose_bytes(v);
    for (std::size_t b = 0; b < kBlockBytes; ++b) std::memcpy(&s.p[b][g], &v[b], sizeof v[b]);
  }
  for (auto& planes : s.p) transpose_bits(planes);
}

void store(State& s, std::uint8_t* blocks) {
  for (auto& planes : s.p) transpose_bits(planes);
  for (std::size_t g = 0; g < 8; ++g) {
    Bytes v[16];
    for (std::size_t b = 0; b < kBlockBytes; ++b) std::memcpy(&v[b], &s.p[b][g], sizeof v[b]);
    transpose_bytes(v);
    std::memcpy(blocks + 256 * g, v, sizeof v);
  }
}

// All bits where bit j of the bytes is one, which are all the same.
inline Lanes filled(Lanes bytes, int j) {
  const Bytes bit = reinterpret_cast<Bytes>(both(0x0101010101010101 << j));
  return reinterpret_cast<Lanes>((reinterpret_cast<Bytes>(bytes) & bit) == bit);
}

struct WideKeys {
  State round[11];  // from the first on with the S-box's constant, which MixColumns leaves as it is

  explicit WideKeys(const RoundKeys& keys) {
    for (std::size_t r = 0; r < 11; ++r)
      for (std::size_t b = 0; b < kBlockBytes; ++b) {
        const std::uint64_t byte = keys.bytes[kBlockBytes * r + b] ^ (r == 0 ? 0 : kSboxConstant);
        const Lanes bytes = both(0x0101010101010101 * byte);
        for (int j = 0; j < 8; ++j) round[r].p[b][j] = filled(bytes, j);
      }
  }
};

inline void add(State& s, const State& other) {
  for (std::size_t b = 0; b < kBlockBytes; ++b)
    for (int j = 0; j < 8; ++j) s.p[b][j] ^= other.p[b][j];
}

// Four bytes a of a column to 2 (a + b) + b + (the two bytes after), b being the byte below a (FIPS 197, section 5.1.3),
// plus a key.
inline void mix_column(const Lanes (&a)[4][8], const Lanes (*key)[8], Lanes (*to)[8]) {
  Lanes top[4], before[4];  // of a + b: the highest plane, and the plane before the one at hand
  for (int r = 0; r < 4; ++r) before[r] = top[r] = a[r][7] ^ a[(r + 1) % 4][7];
  for (int j = 0; j < 8; ++j) {
    Lanes sum[4];
    for (int r = 0; r < 4; ++r) sum[r] = a[r][j] ^ a[(r + 1) % 4][j];
    for (int r = 0; r < 4; ++r) {
      Lanes x = before[r] ^ a[(r + 1) % 4][j] ^ sum[(r + 2) % 4] ^ key[r][j];
      if (j == 1 || j == 3 || j == 4) x ^= top[r];
      to[r][j] = x;
    }
    for (int r = 0; r < 4; ++r) before[r] = sum[r];
  }
}

constexpr std::size_t kManyCounters = 8 * kWideBlocks;  // from here on CounterRounds is faster

// Row r of a column comes from r columns to the right.
inline std::size_t shifted(std::size_t column, std::size_t row) { return 4 * ((column + row) % 4) + row; }

// One round but the last: substitution, ShiftRows, MixColumns, the key.
void round_of(const State& from, const State& key, State& to) {
  for (std::size_t c = 0; c < 4; ++c) {
    Lanes column[4][8];
    for (std::size_t row = 0; row < 4; ++row) substitute(from.p[shifted(c, row)], column[row]);
    mix_column(column, &key.p[4 * c], &to.p[4 * c]);
  }
}

void first_two_rounds(const WideKeys& keys, State& s) {
  State next;
  add(s, keys.round[0]);
  round_of(s, keys.round[1], next);
  round_of(next, keys.round[2], s);
}

void other_rounds(const WideKeys& keys, State& s) {
  State next;
  for (std::size_t r = 3; r < 9; r += 2) {
    round_of(s, keys.round[r], next);
    round_of(next, keys.round[r + 1], s);
  }
  round_of(s, keys.round[9], next);
  for (std::size_t c = 0; c < 4; ++c)
    for (std::size_t row = 0; row < 4; ++row) substitute(next.p[shifted(c, row)], s.p[4 * c + row]);
  add(s, keys.round[10]);
}

void encrypt(const WideKeys& keys, State& s) {
  first_two_rounds(keys, s);
  other_rounds(keys, s);
}

// 128 counters from a multiple of 128 on. Within a batch only the lowest seven bits differ.
void load_counters(std::uint64_t first, State& s) {
  constexpr std::uint64_t byte_of[4][2] = {{0xff00ff00ff00ff00, 0xff00ff00ff00ff00},  // bits of i, block 16 g + i
                                           {0xffff0000ffff0000, 0xffff0000ffff0000},
                                           {0xffffffff00000000, 0xffffffff00000000},
                                           {0, 0xffffffffffffffff}};
  constexpr std::uint64_t bit_of[3] = {0xaaaaaaaaaaaaaaaa, 0xcccccccccccccccc, 0xf0f0f0f0f0f0f0f0};  // bits of g
  std::memset(&s, 0, sizeof s);
  for (std::size_t i = 7; i < 64; ++i) s.p[15 - i / 8][i % 8] = both(std::uint64_t{0} - (first >> i & 1));
  for (std::size_t i = 0; i < 4; ++i) s.p[15][i] = Lanes{byte_of[i][0], byte_of[i][1]};
  for (std::size_t i = 0; i < 3; ++i) s.p[15][4 + i] = both(bit_of[i]);
}

// A batch of x, and zeros where x ends.
void load_some(const std::uint8_t* x, std::size_t n, State& s) {
  if (n >= kWideBlocks) return load(x, s);
  std::uint8_t padded[kBlockBytes * kWideBlocks] = {};
  std::memcpy(padded, x, kBlockBytes * n);
  load(padded, s);
}

// A batch from number `skip` on to `out`, which has room for n blocks. `s` is no state any more then.
void store_some(State& s, std::size_t skip, std::size_t n, std::uint8_t* out) {
  if (skip == 0 && n >= kWideBlocks) return store(s, out);
  std::uint8_t batch[kBlockBytes * kWideBlocks];
  store(s, batch);
  std::memcpy(out, batch + kBlockBytes * skip, kBlockBytes * (n < kWideBlocks - skip ? n : kWideBlocks - skip));
}

}  // namespace

// Counters (g, c) of which only g, 32 bits, and the lowest byte c change. In the first round c reaches the first column
// and g the three others; in the second every byte is substituted by itself, and what follows is linear. So
//     two rounds of (g, c) = two rounds of (g0, c) ^ two rounds of (g, 0) ^ two rounds of (g0, 0),
// and most batches have only eight rounds of their own.
class CounterRounds {
 public:
  CounterRounds(const WideKeys& keys, std::uint64_t first_block) : keys_(keys), first_(first_block / kEach) {
    for (std::size_t half = 0; half < 2; ++half) {
      load_counters(kEach * first_ + kWideBlocks * half, of_first_[half]);
      first_two_rounds(keys, of_first_[half]);
    }
    fill(first_);
    std::memcpy(origin_, begun_, sizeof origin_);
  }

  // Two rounds of the batch that begins at `block`, a multiple of 128. Batches come in order.
  void next(std::uint64_t block, State& s) {
    const std::uint64_t g = block / kEach;
    if (g >= filled_ + kWideBlocks) fill(g);
    s = of_first_[block / kWideBlocks % 2];
    for (std::size_t b = 0; b < kBlockBytes; ++b) {
      const std::uint64_t byte = begun_[kBlockBytes * (g - filled_) + b] ^ origin_[b];
      const Lanes bytes = both(0x0101010101010101 * byte);
      for (int j = 0; j < 8; ++j) s.p[b][j] ^= filled(bytes, j);
    }
  }

 private:
  static constexpr std::uint64_t kEach = 256;  // counters of one g

  // Two rounds of (g, 0), (g + 1, 0), ...
  void fill(std::uint64_t g) {
    std::uint64_t counters[2 * kWideBlocks] = {};
    for (std::size_t i = 0; i < kWideBlocks; ++i) counters[2 * i + 1] = __builtin_bswap64(kEach * (g + i));
    State s;
    load(reinterpret_cast<const std::uint8_t*>(counters), s);
    first_two_rounds(keys_, s);
    store(s, begun_);
    filled_ = g;
  }

  const WideKeys& keys_;
  std::uint64_t first_, filled_ = 0;
  State of_first_[2];
  std::uint8_t begun_[kBlockBytes * kWideBlocks], origin_[kBlockBytes];
};

void aes_counter_wide(const RoundKeys& keys, std::uint64_t first_block, std::size_t blocks, std::uint8_t* out) {
  const WideKeys wide(keys);
  State s;
  if (blocks >= kManyCounters && first_block >> 40 == (first_block + blocks - 1) >> 40) {
    CounterRounds rounds(wide, first_block);
    for (std::size_t done = 0; done < blocks;) {
      const std::size_t skip = static_cast<std::size_t>((first_block + done) % kWideBlocks);
      rounds.next(first_block + done - skip, s);
      other_rounds(wide, s);
      store_some(s, skip, blocks - done, out + kBlockBytes * done);
      done += kWideBlocks - skip;
    }
    return;
  }
  for (std::size_t done = 0; done < blocks;) {
    const std::size_t skip = static_cast<std::size_t>((first_block + done) % kWideBlocks);
    load_counters(first_block + done - skip, s);
    encrypt(wide, s);
    store_some(s, skip, blocks - done, out + kBlockBytes * done);
    done += kWideBlocks - skip;
  }
}

void aes_encrypt_wide(const RoundKeys& keys, const std::uint8_t* x, std::size_t n, std::uint8_t* out) {
  const WideKeys wide(keys);
  State s;
  for (std::size_t done = 0; done < n; done += kWideBlocks) {
    load_some(x + kBlockBytes * done, n - done, s);
    encrypt(wide, s);
    store_some(s, 0, n - done, out + kBlockBytes * done);
  }
}

void aes_hash_wide(const RoundKeys& keys, const std::uint8_t* x, const std::uint64_t* tweaks, std::size_t n,
                   std::uint8_t* out) {
  const WideKeys wide(keys);
  State first, second;
  for (std::size_t done = 0; done < n; done += kWideBlocks) {
    std::uint64_t words[2 * kWideBlocks] = {};
    for (std::size_t i = 0; i < kWideBlocks && i < n - done; ++i) words[2 * i] = tweaks[done + i];
    load_some(x + kBlockBytes * done, n - done, first);
    encrypt(wide, first);
    load(reinterpret_cast<const std::uint8_t*>(words), second);
    add(second, first);
    encrypt(wide, second);
    add(second, first);
    store_some(second, 0, n - done, out + kBlockBytes * done);
  }
}

}  // namespace aero
