// AES-128: the block cipher under the pseudorandom streams and the hash. FIPS 197; counter mode as in NIST SP 800-38A.
//
// Every variant runs in time independent of keys and data: AES instructions where the processor has them, and a
// bitsliced circuit without tables elsewhere.
#pragma once

#include <cstddef>
#include <cstdint>

namespace aero {

constexpr std::size_t kBlockBytes = 16;

struct RoundKeys {
  alignas(16) std::uint8_t bytes[11 * kBlockBytes];
};

// The eleven round keys of a 16-byte key.
void expand_key(const std::uint8_t* key, RoundKeys& keys);

// out[16 j .. 16 j + 15] = AES(key, first_block + j as a 128-bit big-endian counter), for j < blocks.
// The caller keeps first_block + blocks below 2^64.
void aes_counter(const RoundKeys& keys, std::uint64_t first_block, std::size_t blocks, std::uint8_t* out);

// out[j] = AES(key, x[j]) for n 16-byte blocks x. `out` may be `x`.
void aes_encrypt(const RoundKeys& keys, const std::uint8_t* x, std::size_t n, std::uint8_t* out);

// out[j] = pi(pi(x[j]) ^ t[j]) ^ pi(x[j]) for n 16-byte blocks x, where pi is AES under the key and the 64-bit tweak
// t[j] is XORed, little-endian, into the first eight bytes. Guo, Katz, Wang and Yu 2020, section 7.4. `out` may be `x`.
void aes_hash(const RoundKeys& keys, const std::uint8_t* x, const std::uint64_t* tweaks, std::size_t n,
              std::uint8_t* out);

// The variants behind the functions above.
void expand_key_portable(const std::uint8_t* key, RoundKeys& keys);
void aes_counter_portable(const RoundKeys& keys, std::uint64_t first_block, std::size_t blocks, std::uint8_t* out);
void aes_encrypt_portable(const RoundKeys& keys, const std::uint8_t* x, std::size_t n, std::uint8_t* out);
void aes_hash_portable(const RoundKeys& keys, const std::uint8_t* x, const std::uint64_t* tweaks, std::size_t n,
                       std::uint8_t* out);
void expand_key_avx2(const std::uint8_t* key, RoundKeys& keys);
void aes_counter_avx2(const RoundKeys& keys, std::uint64_t first_block, std::size_t blocks, std::uint8_t* out);
void aes_encrypt_avx2(const RoundKeys& keys, const std::uint8_t* x, std::size_t n, std::uint8_t* out);
void aes_hash_avx2(const RoundKeys& keys, const std::uint8_t* x, const std::uint64_t* tweaks, std::size_t n,
                   std::uint8_t* out);
void aes_counter_avx512(const RoundKeys& keys, std::uint64_t first_block, std::size_t blocks, std::uint8_t* out);
void aes_encrypt_avx512(const RoundKeys& keys, const std::uint8_t* x, std::size_t n, std::uint8_t* out);
void aes_hash_avx512(const RoundKeys& keys, const std::uint8_t* x, const std::uint64_t* tweaks, std::size_t n,
                     std::uint8_t* out);
void expand_key_armv8(const std::uint8_t* key, RoundKeys& keys);
void aes_counter_armv8(const RoundKeys& keys, std::uint64_t first_block, std::size_t blocks, std::uint8_t* out);
void aes_encrypt_armv8(const RoundKeys& keys, const std::uint8_t* x, std::size_t n, std::uint8_t* out);
void aes_hash_armv8(const RoundKeys& keys, const std::uint8_t* x, const std::uint64_t* tweaks, std::size_t n,
                    std::uint8_t* out);

}  // namespace aero
