#include "ot_pads.h"

#include <algorithm>
#include <cstring>

#include "parallel.h"

namespace aero {
namespace {

struct Block {
  std::uint64_t word[2];
};

constexpr std::size_t kWordsEach = 24;  // of one OT, for in_parallel: hashing is more than reading

// Calls piece(key, at, begin, end) for the OTs begin, ..., end - 1 of n, all of which have one key; `at` is the number
// of the first of them.
template <typename Piece>
void for_each_key(const RoundKeys& session, std::uint64_t domain, std::uint64_t first, std::size_t n, Piece piece) {
  in_parallel(n, kWordsEach, [&](std::size_t begin, std::size_t end) {
    RoundKeys key;
    while (begin < end) {
      const std::uint64_t at = first + begin;
      const std::size_t stop = std::min<std::size_t>(end, begin + (kOtsPerKey - at % kOtsPerKey));
      derived_key(session, domain, at / kOtsPerKey, key);
      piece(key, at, begin, stop);
      begin = stop;
    }
  });
}

}  // namespace

void derived_key(const RoundKeys& session, std::uint64_t domain, std::uint64_t index, RoundKeys& key) {
  std::uint8_t bytes[kBlockBytes];
  aes_counter(session, (domain << 56) + index, 1, bytes);
  expand_key(bytes, key);
}

void sender_pads(const RoundKeys& session, std::uint64_t domain, std::uint64_t first, const std::uint8_t* delta,
                 const std::uint8_t* k, std::size_t n, std::uint8_t* out) {
  Block difference;
  std::memcpy(&difference, delta, sizeof difference);
  for_each_key(session, domain, first, n,
               [&](const RoundKeys& key, std::uint64_t at, std::size_t begin, std::size_t end) {
    Block pairs[2 * kOtsPerKey];
    std::uint64_t tweaks[2 * kOtsPerKey];
    for (std::size_t i = 0; i < end - begin; ++i) {
      Block block;
      std::memcpy(&block, k + kBlockBytes * (begin + i), sizeof block);
      pairs[2 * i] = block;
      pairs[2 * i + 1] = {{block.word[0] ^ difference.word[0], block.word[1] ^ difference.word[1]}};
      tweaks[2 * i] = tweaks[2 * i + 1] = (domain << 56) + at + i;
    }
    aes_hash(key, reinterpret_cast<const std::uint8_t*>(pairs), tweaks, 2 * (end - begin),
             out + 2 * kBlockBytes * begin);
  });
}

void receiver_pads(const RoundKeys& session, std::uint64_t domain, std::uint64_t first, const std::uint8_t* m,
                   std::size_t n, std::uint8_t* bits, std::uint8_t* out) {
  for_each_key(session, domain, first, n,
               [&](const RoundKeys& key, std::uint64_t at, std::size_t begin, std::size_t end) {
    std::uint64_t tweaks[kOtsPerKey];
    for (std::size_t i = begin; i < end; ++i) {
      tweaks[i - begin] = (domain << 56) + at + (i - begin);
      bits[i] = m[kBlockBytes * i] & 1;
    }
    aes_hash(key, m + kBlockBytes * begin, tweaks, end - begin, out + kBlockBytes * begin);
  });
}

}  // namespace aero
