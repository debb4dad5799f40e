#include "aes.h"

#include <cstring>

#include "aes_planes.h"
#include "aes_schedule.h"
#include "aes_wide.h"
#include "dispatch.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the kernels are written for little-endian processors");

namespace aero {

// The bitsliced cipher for few blocks: eight at once in eight planes, plane j holding bit j of every byte. Many go to
// aes_wide.cpp.
namespace {

constexpr std::size_t kBatch = 8;  // blocks
constexpr std::size_t kMany = 6 * kBatch;  // from here on 128 at once take no longer

struct Planes {
  Lanes p[8];
};

// Eight blocks are eight words of eight bytes in each half of the vectors, four blocks in a half. Byte b of word k goes to
// bit 8 b + k of a half, so with the AES state's row r and column c of block n, the bit is
//     32 (c mod 2) + 8 r + 2 n + (c div 2).
inline Planes load(const std::uint8_t* blocks) {
  Planes s;
  for (std::size_t k = 0; k < 8; ++k) {
    std::uint64_t lo, hi;
    std::memcpy(&lo, blocks + 8 * k, 8);
    std::memcpy(&hi, blocks + 64 + 8 * k, 8);
    s.p[k] = Lanes{lo, hi};
  }
  transpose_bits(s.p);
  return s;
}

inline void store(Planes s, std::uint8_t* blocks) {
  transpose_bits(s.p);
  for (std::size_t k = 0; k < 8; ++k) {
    const std::uint64_t lo = s.p[k][0], hi = s.p[k][1];
    std::memcpy(blocks + 8 * k, &lo, 8);
    std::memcpy(blocks + 64 + 8 * k, &hi, 8);
  }
}

// Row r moves r columns to the left; see above for where a column lives.
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
  Planes round[11];  // from the first on with the S-box's constant, which MixColumns leaves as it is
};

SlicedKeys slice(const RoundKeys& keys) {
  SlicedKeys sliced;
  std::uint8_t copies[kBatch * kBlockBytes];
  for (int round = 0; round < 11; ++round) {
    for (std::size_t i = 0; i < kBatch; ++i)
      for (std::size_t b = 0; b < kBlockBytes; ++b)
        copies[kBlockBytes * i + b] = keys.bytes[kBlockBytes * round + b] ^ (round == 0 ? 0 : kSboxConstant);
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
    substitute(s.p, s.p);
    for (Lanes& plane : s.p) plane = shift_rows(plane);
    if (round < 10) s = mix_columns(s);
    add(s, keys.round[round]);
  }
  store(s, blocks);
}

std::uint32_t substitute_word(std::uint32_t word) {
  std::uint8_t blocks[kBatch * kBlockBytes] = {};
  std::memcpy(blocks, &word, 4);
  Planes s = load(blocks);
  substitute(s.p, s.p);
  store(s, blocks);
  std::memcpy(&word, blocks, 4);
  return word ^ 0x01010101u * kSboxConstant;
}

// How many of n blocks to encrypt 128 at once; the others eight at once.
std::size_t wide_part(std::size_t n) {
  const std::size_t rest = n % kWideBlocks;
  return rest >= kMany ? n : n - rest;
}

}  // namespace

void expand_key_portable(const std::uint8_t* key, RoundKeys& keys) { expand_key_with(substitute_word, key, keys); }

void aes_counter_portable(const RoundKeys& keys, std::uint64_t first_block, std::size_t blocks, std::uint8_t* out) {
  const std::size_t wide = wide_part(blocks);
  if (wide > 0) aes_counter_wide(keys, first_block, wide, out);
  if (wide == blocks) return;
  const SlicedKeys sliced = slice(keys);
  std::uint8_t batch[kBatch * kBlockBytes];
  for (std::size_t done = wide; done < blocks; done += kBatch) {
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

void aes_encrypt_portable(const RoundKeys& keys, const std::uint8_t* x, std::size_t n, std::uint8_t* out) {
  const std::size_t wide = wide_part(n);
  if (wide > 0) aes_encrypt_wide(keys, x, wide, out);
  if (wide == n) return;
  const SlicedKeys sliced = slice(keys);
  for (std::size_t done = wide; done < n; done += kBatch) {
    const std::size_t now = n - done < kBatch ? n - done : kBatch;
    std::uint8_t batch[kBatch * kBlockBytes] = {};
    std::memcpy(batch, x + kBlockBytes * done, kBlockBytes * now);
    encrypt(sliced, batch);
    std::memcpy(out + kBlockBytes * done, batch, kBlockBytes * now);
  }
}

void aes_hash_portable(const RoundKeys& keys, const std::uint8_t* x, const std::uint64_t* tweaks, std::size_t n,
                       std::uint8_t* out) {
  const std::size_t wide = wide_part(n);
  if (wide > 0) aes_hash_wide(keys, x, tweaks, wide, out);
  if (wide == n) return;
  const SlicedKeys sliced = slice(keys);
  for (std::size_t done = wide; done < n; done += kBatch) {
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

void aes_encrypt(const RoundKeys& keys, const std::uint8_t* x, std::size_t n, std::uint8_t* out) {
#if AERO_X86
  if (level() >= Level::avx512) return aes_encrypt_avx512(keys, x, n, out);
  if (level() >= Level::avx2) return aes_encrypt_avx2(keys, x, n, out);
#elif AERO_ARM64
  if (level() >= Level::armv8) return aes_encrypt_armv8(keys, x, n, out);
#endif
  aes_encrypt_portable(keys, x, n, out);
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
