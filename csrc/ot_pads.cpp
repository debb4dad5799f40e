#include "ot_pads.h"

#include <cstring>

namespace aero {
namespace {

struct Block {
  std::uint64_t word[2];
};

}  // namespace

void derived_key(const RoundKeys& session, std::uint64_t domain, std::uint64_t index, RoundKeys& key) {
  std::uint8_t bytes[kBlockBytes];
  aes_counter(session, (domain << 56) + index, 1, bytes);
  expand_key(bytes, key);
}

void sender_pads(const RoundKeys& session, std::uint64_t domain, std::uint64_t first, const std::uint8_t* delta,
                 const std::uint8_t* k, std::size_t n, std::uint8_t* out) {
  Block difference, pairs[2 * kOtsPerKey];
  std::uint64_t tweaks[2 * kOtsPerKey];
  std::memcpy(&difference, delta, sizeof difference);
  RoundKeys key;
  for (std::size_t done = 0; done < n;) {
    const std::uint64_t at = first + done, room = kOtsPerKey - at % kOtsPerKey;
    const std::size_t now = n - done < room ? n - done : room;
    derived_key(session, domain, at / kOtsPerKey, key);
    for (std::size_t i = 0; i < now; ++i) {
      Block block;
      std::memcpy(&block, k + kBlockBytes * (done + i), sizeof block);
      pairs[2 * i] = block;
      pairs[2 * i + 1] = {{block.word[0] ^ difference.word[0], block.word[1] ^ difference.word[1]}};
      tweaks[2 * i] = tweaks[2 * i + 1] = (domain << 56) + at + i;
    }
    aes_hash(key, reinterpret_cast<const std::uint8_t*>(pairs), tweaks, 2 * now, out + 2 * kBlockBytes * done);
    done += now;
  }
}

void receiver_pads(const RoundKeys& session, std::uint64_t domain, std::uint64_t first, const std::uint8_t* m,
                   std::size_t n, std::uint8_t* bits, std::uint8_t* out) {
  std::uint64_t tweaks[kOtsPerKey];
  RoundKeys key;
  for (std::size_t done = 0; done < n;) {
    const std::uint64_t at = first + done, room = kOtsPerKey - at % kOtsPerKey;
    const std::size_t now = n - done < room ? n - done : room;
    derived_key(session, domain, at / kOtsPerKey, key);
    for (std::size_t i = 0; i < now; ++i) {
      tweaks[i] = (domain << 56) + at + i;
      bits[done + i] = m[kBlockBytes * (done + i)] & 1;
    }
    aes_hash(key, m + kBlockBytes * done, tweaks, now, out + kBlockBytes * done);
    done += now;
  }
}

}  // namespace aero
