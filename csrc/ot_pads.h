// From correlated OTs to random ones: the tweaked hash breaks the correlation.
//
// OT i of the domain d is hashed as pi(pi(x) ^ t) ^ pi(x) (see aes.h) with the tweak t = 2^56 d + i, and pi is AES under
// AES_S(2^56 d + i div 256): a key of its own for every 256 OTs, so that an attack on many OTs at once gains no more than
// on 256 of them (Guo, Katz, Wang, Weng and Yu 2020, "Better Concrete Security for Half-Gates Garbling", on why).
// S is a public key of the session.
#pragma once

#include <cstddef>
#include <cstdint>

#include "aes.h"

namespace aero {

constexpr std::uint64_t kOtsPerKey = 256;

// out[i] = {H(k[i]), H(k[i] ^ delta)} for the OTs first, ..., first + n - 1. `out` is [n][2][16].
void sender_pads(const RoundKeys& session, std::uint64_t domain, std::uint64_t first, const std::uint8_t* delta,
                 const std::uint8_t* k, std::size_t n, std::uint8_t* out);

// out[i] = H(m[i]), bits[i] = the lowest bit of m[i].
void receiver_pads(const RoundKeys& session, std::uint64_t domain, std::uint64_t first, const std::uint8_t* m,
                   std::size_t n, std::uint8_t* bits, std::uint8_t* out);

// The key of number `index` in a domain: AES_S(2^56 domain + index).
void derived_key(const RoundKeys& session, std::uint64_t domain, std::uint64_t index, RoundKeys& key);

// The pads of n OTs under one key, the first of which has that tweak; n is a multiple of 16, at the receiver of 32.
void sender_pads_avx2(const RoundKeys& keys, std::uint64_t tweak, const std::uint8_t* delta, const std::uint8_t* k,
                      std::size_t n, std::uint8_t* out);
void receiver_pads_avx2(const RoundKeys& keys, std::uint64_t tweak, const std::uint8_t* m, std::size_t n,
                        std::uint8_t* out);
void sender_pads_avx512(const RoundKeys& keys, std::uint64_t tweak, const std::uint8_t* delta, const std::uint8_t* k,
                        std::size_t n, std::uint8_t* out);
void receiver_pads_avx512(const RoundKeys& keys, std::uint64_t tweak, const std::uint8_t* m, std::size_t n,
                          std::uint8_t* out);

}  // namespace aero
