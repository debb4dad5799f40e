#include "ot_pads.h"

#include <algorithm>
#include <cstring>

#include "dispatch.h"
#include "parallel.h"

namespace aero {
namespace {

struct Block {
  std::uint64_t word[2];
};

constexpr std::size_t kWordsEach = 24;  // of one OT, for in_parallel: hashing is more than reading

constexpr std::size_t kKeysAtOnce = 32;

// Calls piece(key, at, begin, end) for the OTs begin, ..., end - 1 of n, all of which have one key; `at` is the number
// of the first of them.
template <typename Piece>
void for_each_key(const RoundKeys& session, std::uint64_t domain, std::uint64_t first, std::size_t n, Piece piece) {
  in_parallel(n, kWordsEach, [&](std::size_t begin, std::size_t end) {
    RoundKeys key;
    std::uint8_t keys[kBlockBytes * kKeysAtOnce];
    for (std::size_t used = kKeysAtOnce; begin < end; ++used) {
      const std::uint64_t at = first + begin, index = at / kOtsPerKey;
      if (used == kKeysAtOnce) {
        const std::uint64_t left = (first + end - 1) / kOtsPerKey - index + 1;
        aes_counter(session, (domain << 56) + index, std::min<std::uint64_t>(left, kKeysAtOnce), keys);
        used = 0;
      }
      expand_key(keys + kBlockBytes * used, key);
      const std::size_t stop = std::min<std::size_t>(end, begin + (kOtsPerKey - at % kOtsPerKey));
      piece(key, at, begin, stop);
      begin = stop;
    }
  });
}

void hash_pairs(const RoundKeys& key, std::uint64_t tweak, const std::uint8_t* delta, const std::uint8_t* k,
                std::size_t n, std::uint8_t* out) {
#if AERO_X86
  if (n % 16 == 0) {
    if (level() >= Level::avx512) return sender_pads_avx512(key, tweak, delta, k, n, out);
    if (level() >= Level::avx2) return sender_pads_avx2(key, tweak, delta, k, n, out);
  }
#endif
  Block difference, pairs[2 * kOtsPerKey];
  std::memcpy(&difference, delta, sizeof difference);
  std::uint64_t tweaks[2 * kOtsPerKey];
  for (std::size_t i = 0; i < n; ++i) {
    Block block;
    std::memcpy(&block, k + kBlockBytes * i, sizeof block);
    pairs[2 * i] = block;
    pairs[2 * i + 1] = {{block.word[0] ^ difference.word[0], block.word[1] ^ difference.word[1]}};
    tweaks[2 * i] = tweaks[2 * i + 1] = tweak + i;
  }
  aes_hash(key, reinterpret_cast<const std::uint8_t*>(pairs), tweaks, 2 * n, out);
}

void hash(const RoundKeys& key, std::uint64_t tweak, const std::uint8_t* m, std::size_t n, std::uint8_t* out) {
#if AERO_X86
  if (n % 32 == 0) {
    if (level() >= Level::avx512) return receiver_pads_avx512(key, tweak, m, n, out);
    if (level() >= Level::avx2) return receiver_pads_avx2(key, tweak, m, n, out);
  }
#endif
  std::uint64_t tweaks[kOtsPerKey];
  for (std::size_t i = 0; i < n; ++i) tweaks[i] = tweak + i;
  aes_hash(key, m, tweaks, n, out);
}

}  // namespace

void derived_key(const RoundKeys& session, std::uint64_t domain, std::uint64_t index, RoundKeys& key) {
  std::uint8_t bytes[kBlockBytes];
  aes_counter(session, (domain << 56) + index, 1, bytes);
  expand_key(bytes, key);
}

void sender_pads(const RoundKeys& session, std::uint64_t domain, std::uint64_t first, const std::uint8_t* delta,
                 const std::uint8_t* k, std::size_t n, std::uint8_t* out) {
  for_each_key(session, domain, first, n,
               [&](const RoundKeys& key, std::uint64_t at, std::size_t begin, std::size_t end) {
    hash_pairs(key, (domain << 56) + at, delta, k + kBlockBytes * begin, end - begin, out + 2 * kBlockBytes * begin);
  });
}

void receiver_pads(const RoundKeys& session, std::uint64_t domain, std::uint64_t first, const std::uint8_t* m,
                   std::size_t n, std::uint8_t* bits, std::uint8_t* out) {
  for_each_key(session, domain, first, n,
               [&](const RoundKeys& key, std::uint64_t at, std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) bits[i] = m[kBlockBytes * i] & 1;
    hash(key, (domain << 56) + at, m + kBlockBytes * begin, end - begin, out + kBlockBytes * begin);
  });
}

}  // namespace aero
