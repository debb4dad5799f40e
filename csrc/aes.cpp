#include "aes.h"

#include <cstring>

#include "aes_schedule.h"
#include "dispatch.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the kernels are written for little-endian processors");

namespace aero {

// The bitsliced cipher: eight blocks at once in eight planes, plane j holding bit j of every byte. The S-box is a circuit,
// so no address and no branch depends on data.
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

// The S-box as a circuit of 128 gates: Boyar and Peralta, "A Small Depth-16 Circuit for the AES S-Box" (2012), in their
// names, where u0 is the highest bit.
inline Planes substitute(const Planes& x) {
  const Lanes u0 = x.p[7], u1 = x.p[6], u2 = x.p[5], u3 = x.p[4], u4 = x.p[3], u5 = x.p[2], u6 = x.p[1], u7 = x.p[0];
  const Lanes t1 = u0 ^ u3, t2 = u0 ^ u5, t3 = u0 ^ u6, t4 = u3 ^ u5, t5 = u4 ^ u6, t6 = t1 ^ t5, t7 = u1 ^ u2;
  const Lanes t8 = u7 ^ t6, t9 = u7 ^ t7, t10 = t6 ^ t7, t11 = u1 ^ u5, t12 = u2 ^ u5, t13 = t3 ^ t4, t14 = t6 ^ t11;
  const Lanes t15 = t5 ^ t11, t16 = t5 ^ t12, t17 = t9 ^ t16, t18 = u3 ^ u7, t19 = t7 ^ t18, t20 = t1 ^ t19;
  const Lanes t21 = u6 ^ u7, t22 = t7 ^ t21, t23 = t2 ^ t22, t24 = t2 ^ t10, t25 = t20 ^ t17, t26 = t3 ^ t16;
  const Lanes t27 = t1 ^ t12;
  const Lanes m1 = t13 & t6, m2 = t23 & t8, m3 = t14 ^ m1, m4 = t19 & u7, m5 = m4 ^ m1, m6 = t3 & t16, m7 = t22 & t9;
  const Lanes m8 = t26 ^ m6, m9 = t20 & t17, m10 = m9 ^ m6, m11 = t1 & t15, m12 = t4 & t27, m13 = m12 ^ m11;
  const Lanes m14 = t2 & t10, m15 = m14 ^ m11, m16 = m3 ^ m2, m17 = m5 ^ t24, m18 = m8 ^ m7, m19 = m10 ^ m15;
  const Lanes m20 = m16 ^ m13, m21 = m17 ^ m15, m22 = m18 ^ m13, m23 = m19 ^ t25, m24 = m22 ^ m23, m25 = m22 & m20;
  const Lanes m26 = m21 ^ m25, m27 = m20 ^ m21, m28 = m23 ^ m25, m29 = m28 & m27, m30 = m26 & m24, m31 = m20 & m23;
  const Lanes m32 = m27 & m31, m33 = m27 ^ m25, m34 = m21 & m22, m35 = m24 & m34, m36 = m24 ^ m25, m37 = m21 ^ m29;
  const Lanes m38 = m32 ^ m33, m39 = m23 ^ m30, m40 = m35 ^ m36, m41 = m38 ^ m40, m42 = m37 ^ m39, m43 = m37 ^ m38;
  const Lanes m44 = m39 ^ m40, m45 = m42 ^ m41, m46 = m44 & t6, m47 = m40 & t8, m48 = m39 & u7, m49 = m43 & t16;
  const Lanes m50 = m38 & t9, m51 = m37 & t17, m52 = m42 & t15, m53 = m45 & t27, m54 = m41 & t10, m55 = m44 & t13;
  const Lanes m56 = m40 & t23, m57 = m39 & t19, m58 = m43 & t3, m59 = m38 & t22, m60 = m37 & t20, m61 = m42 & t1;
  const Lanes m62 = m45 & t4, m63 = m41 & t2;
  const Lanes l0 = m61 ^ m62, l1 = m50 ^ m56, l2 = m46 ^ m48, l3 = m47 ^ m55, l4 = m54 ^ m58, l5 = m49 ^ m61;
  const Lanes l6 = m62 ^ l5, l7 = m46 ^ l3, l8 = m51 ^ m59, l9 = m52 ^ m53, l10 = m53 ^ l4, l11 = m60 ^ l2;
  const Lanes l12 = m48 ^ m51, l13 = m50 ^ l0, l14 = m52 ^ m61, l15 = m55 ^ l1, l16 = m56 ^ l0, l17 = m57 ^ l1;
  const Lanes l18 = m58 ^ l8, l19 = m63 ^ l4, l20 = l0 ^ l1, l21 = l1 ^ l7, l22 = l3 ^ l12, l23 = l18 ^ l2;
  const Lanes l24 = l15 ^ l9, l25 = l6 ^ l10, l26 = l7 ^ l9, l27 = l8 ^ l10, l28 = l11 ^ l14, l29 = l11 ^ l17;
  return {{~(l6 ^ l23), ~(l13 ^ l27), l25 ^ l29, l20 ^ l22, l6 ^ l21, ~(l19 ^ l28), ~(l16 ^ l26), l6 ^ l24}};
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

void aes_encrypt_portable(const RoundKeys& keys, const std::uint8_t* x, std::size_t n, std::uint8_t* out) {
  const SlicedKeys sliced = slice(keys);
  for (std::size_t done = 0; done < n; done += kBatch) {
    const std::size_t now = n - done < kBatch ? n - done : kBatch;
    std::uint8_t batch[kBatch * kBlockBytes] = {};
    std::memcpy(batch, x + kBlockBytes * done, kBlockBytes * now);
    encrypt(sliced, batch);
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
