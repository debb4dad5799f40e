#include "aes.h"

#include <cstring>

#include "aes_schedule.h"
#include "dispatch.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the kernels are written for little-endian processors");

namespace aero {

// The bitsliced cipher: eight blocks at once in eight planes, plane j holding bit j of every byte. The S-box is
// evaluated as arithmetic in GF(2^8), so no address and no branch depends on data.
namespace {

constexpr std::size_t kBatch = 8;  // blocks

// Two independent 64-bit words, four blocks each. A vector type of GCC and Clang on every architecture.
typedef std::uint64_t Lanes __attribute__((vector_size(16)));

struct Planes {
  Lanes p[8];
};

constexpr Lanes both(std::uint64_t word) { return Lanes{word, word}; }

// Exchanges the bits of `a` under mask << shift with the bits of `b` under mask.
inline void swap_bits(Lanes& a, Lanes& b, int shift, std::uint64_t mask) {
  const Lanes t = ((a >> shift) ^ b) & both(mask);
  b ^= t;
  a ^= t << shift;
}

// Between eight words of eight bytes and eight bit planes; its own inverse. Byte b of word k goes to bit 8 b + k of the
// planes, so within one 64-bit lane, with the AES state's row r and column c of block n, the bit is
//     32 (c mod 2) + 8 r + 2 n + (c div 2).
inline void transpose_bits(Planes& s) {
  for (int k = 0; k < 8; k += 2) swap_bits(s.p[k], s.p[k + 1], 1, 0x5555555555555555);
  for (int k = 0; k < 8; k += 4)
    for (int i = 0; i < 2; ++i) swap_bits(s.p[k + i], s.p[k + i + 2], 2, 0x3333333333333333);
  for (int i = 0; i < 4; ++i) swap_bits(s.p[i], s.p[i + 4], 4, 0x0f0f0f0f0f0f0f0f);
}

inline Planes load(const std::uint8_t* blocks) {
  Planes s;
  for (std::size_t k = 0; k < 8; ++k) {
    std::uint64_t lo, hi;
    std::memcpy(&lo, blocks + 8 * k, 8);
    std::memcpy(&hi, blocks + 64 + 8 * k, 8);
    s.p[k] = Lanes{lo, hi};
  }
  transpose_bits(s);
  return s;
}

inline void store(Planes s, std::uint8_t* blocks) {
  transpose_bits(s);
  for (std::size_t k = 0; k < 8; ++k) {
    const std::uint64_t lo = s.p[k][0], hi = s.p[k][1];
    std::memcpy(blocks + 8 * k, &lo, 8);
    std::memcpy(blocks + 64 + 8 * k, &hi, 8);
  }
}

// Reduces a polynomial of degree at most 14 modulo x^8 + x^4 + x^3 + x + 1.
inline Planes reduce(Lanes (&c)[15]) {
  for (int i = 14; i >= 8; --i) {
    c[i - 8] ^= c[i];
    c[i - 7] ^= c[i];
    c[i - 5] ^= c[i];
    c[i - 4] ^= c[i];
  }
  Planes r;
  for (int i = 0; i < 8; ++i) r.p[i] = c[i];
  return r;
}

inline Planes multiply(const Planes& a, const Planes& b) {
  Lanes c[15] = {};
  for (int i = 0; i < 8; ++i)
    for (int j = 0; j < 8; ++j) c[i + j] ^= a.p[i] & b.p[j];
  return reduce(c);
}

inline Planes square(const Planes& a) {
  Lanes c[15] = {};
  for (int i = 0; i < 8; ++i) c[2 * i] = a.p[i];
  return reduce(c);
}

// The S-box: the inverse x^254 (0 for 0), then the affine map.
inline Planes substitute(const Planes& x) {
  const Planes x2 = square(x);
  const Planes x3 = multiply(x2, x);
  const Planes x12 = square(square(x3));
  const Planes x15 = multiply(x12, x3);
  const Planes x240 = square(square(square(square(x15))));
  const Planes y = multiply(multiply(x240, x12), x2);
  Planes r;
  for (int i = 0; i < 8; ++i) {
    r.p[i] = y.p[i] ^ y.p[(i + 4) % 8] ^ y.p[(i + 5) % 8] ^ y.p[(i + 6) % 8] ^ y.p[(i + 7) % 8];
    if ((0x63 >> i) & 1) r.p[i] = ~r.p[i];
  }
  return r;
}

// Row r moves r columns to the left; see `transpose_bits` for where a column lives.
inline Lanes shift_rows(Lanes x) {
  const Lanes odd = both(0xaaaaaaaaaaaaaaaa), even = both(0x5555555555555555);
  const Lanes half = (x >> 32) | (x << 32);                              // c mod 2 exchanged
  const Lanes x_flip = ((x << 1) & odd) | ((x >> 1) & even);             // c div 2 exchanged
  const Lanes half_flip = ((half << 1) & odd) | ((half >> 1) & even);    // both
  return (x & both(0x000000ff000000ff)) | (x_flip & both(0x00ff000000ff0000)) |
         (half & both(0xff0000000000ff00)) | (half_flip & both(0x0000ff00ff000000));
}

// The byte one row, or two rows, further down the same column.
inline Lanes next_row(Lanes x) { return ((x >> 8) & both(0x00ffffff00ffffff)) | ((x << 24) & both(0xff000000ff000000)); }
inline Lanes next_row_but_one(Lanes x) {
  return ((x >> 16) & both(0x0000ffff0000ffff)) | ((x << 16) & both(0xffff0000ffff0000));
}

// Each byte a with b below it becomes 2 (a + b) + b + (the two bytes after), FIPS 197 section 5.1.3.
inline Planes mix_columns(const Planes& a) {
  Planes sum, r;  // sum = a + b
  for (int i = 0; i < 8; ++i) sum.p[i] = a.p[i] ^ next_row(a.p[i]);
  for (int i = 0; i < 8; ++i) {
    r.p[i] = next_row(a.p[i]) ^ next_row_but_one(sum.p[i]);
    if (i > 0) r.p[i] ^= sum.p[i - 1];
    if (i == 0 || i == 1 || i == 3 || i == 4) r.p[i] ^= sum.p[7];
  }
  return r;
}

struct SlicedKeys {
  Planes round[11];
};

SlicedKeys slice(const RoundKeys& keys) {
  SlicedKeys sliced;
  std::uint8_t copies[kBatch * kBlockBytes];
  for (int round = 0; round < 11; ++round) {
    for (std::size_t i = 0; i < kBatch; ++i)
      std::memcpy(copies + kBlockBytes * i, keys.bytes + kBlockBytes * round, kBlockBytes);
    sliced.round[round] = load(copies);
  }
  return sliced;
}

inline void add(Planes& s, const Planes& key) {
  for (int i = 0; i < 8; ++i) s.p[i] ^= key.p[i];
}

// Encrypts eight blocks in place.
void encrypt(const SlicedKeys& keys, std::uint8_t* blocks) {
  Planes s = load(blocks);
  add(s, keys.round[0]);
  for (int round = 1; round <= 10; ++round) {
    s = substitute(s);
    for (Lanes& plane : s.p) plane = shift_rows(plane);
    if (round < 10) s = mix_columns(s);
    add(s, keys.round[round]);
  }
  store(s, blocks);
}

std::uint32_t substitute_word(std::uint32_t word) {
  std::uint8_t blocks[kBatch * kBlockBytes] = {};
  std::memcpy(blocks, &word, 4);
  store(substitute(load(blocks)), blocks);
  std::memcpy(&word, blocks, 4);
  return word;
}

}  // namespace

void expand_key_portable(const std::uint8_t* key, RoundKeys& keys) { expand_key_with(substitute_word, key, keys); }

void aes_counter_portable(const RoundKeys& keys, std::uint64_t first_block, std::size_t blocks, std::uint8_t* out) {
  const SlicedKeys sliced = slice(keys);
  std::uint8_t batch[kBatch * kBlockBytes];
  for (std::size_t done = 0; done < blocks; done += kBatch) {
    std::memset(batch, 0, sizeof batch);
    for (std::size_t i = 0; i < kBatch; ++i) {
      const std::uint64_t counter = __builtin_bswap64(first_block + done + i);
      std::memcpy(batch + kBlockBytes * i + 8, &counter, 8);
    }
    encrypt(sliced, batch);
    const std::size_t now = blocks - done < kBatch ? blocks - done : kBatch;
    std::memcpy(out + kBlockBytes * done, batch, kBlockBytes * now);
  }
}

void aes_hash_portable(const RoundKeys& keys, const std::uint8_t* x, const std::uint64_t* tweaks, std::size_t n,
                       std::uint8_t* out) {
  const SlicedKeys sliced = slice(keys);
  for (std::size_t done = 0; done < n; done += kBatch) {
    const std::size_t now = n - done < kBatch ? n - done : kBatch;
    std::uint8_t first[kBatch * kBlockBytes] = {}, second[kBatch * kBlockBytes];
    std::memcpy(first, x + kBlockBytes * done, kBlockBytes * now);
    encrypt(sliced, first);
    std::memcpy(second, first, sizeof second);
    for (std::size_t i = 0; i < now; ++i) {
      std::uint64_t word;
      std::memcpy(&word, second + kBlockBytes * i, 8);
      word ^= tweaks[done + i];
      std::memcpy(second + kBlockBytes * i, &word, 8);
    }
    encrypt(sliced, second);
    for (std::size_t i = 0; i < kBlockBytes * now; ++i) out[kBlockBytes * done + i] = first[i] ^ second[i];
  }
}

void expand_key(const std::uint8_t* key, RoundKeys& keys) {
#if AERO_X86
  if (level() >= Level::avx2) return expand_key_avx2(key, keys);
#elif AERO_ARM64
  if (level() >= Level::armv8) return expand_key_armv8(key, keys);
#endif
  expand_key_portable(key, keys);
}

void aes_counter(const RoundKeys& keys, std::uint64_t first_block, std::size_t blocks, std::uint8_t* out) {
#if AERO_X86
  if (level() >= Level::avx512) return aes_counter_avx512(keys, first_block, blocks, out);
  if (level() >= Level::avx2) return aes_counter_avx2(keys, first_block, blocks, out);
#elif AERO_ARM64
  if (level() >= Level::armv8) return aes_counter_armv8(keys, first_block, blocks, out);
#endif
  aes_counter_portable(keys, first_block, blocks, out);
}

void aes_hash(const RoundKeys& keys, const std::uint8_t* x, const std::uint64_t* tweaks, std::size_t n,
              std::uint8_t* out) {
#if AERO_X86
  if (level() >= Level::avx512) return aes_hash_avx512(keys, x, tweaks, n, out);
  if (level() >= Level::avx2) return aes_hash_avx2(keys, x, tweaks, n, out);
#elif AERO_ARM64
  if (level() >= Level::armv8) return aes_hash_armv8(keys, x, tweaks, n, out);
#endif
  aes_hash_portable(keys, x, tweaks, n, out);
}

}  // namespace aero
