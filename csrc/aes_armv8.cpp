// The AES instructions of ARMv8: one block each, eight in flight. `vaeseq_u8` adds the key before it substitutes, so
// the round keys are used one step earlier than on x86.
#include <arm_neon.h>

#include <cstring>

#include "aes.h"
#include "aes_schedule.h"

namespace aero {
namespace {

constexpr std::size_t kInFlight = 8;

struct Keys {
  uint8x16_t round[11];
};

inline Keys load(const RoundKeys& keys) {
  Keys k;
  for (int i = 0; i < 11; ++i) k.round[i] = vld1q_u8(keys.bytes + kBlockBytes * i);
  return k;
}

inline void encrypt(const Keys& keys, uint8x16_t (&x)[kInFlight]) {
  for (int round = 0; round < 9; ++round)
    for (auto& block : x) block = vaesmcq_u8(vaeseq_u8(block, keys.round[round]));
  for (auto& block : x) block = veorq_u8(vaeseq_u8(block, keys.round[9]), keys.round[10]);
}

// In a state of four equal columns the row shifts do nothing, which leaves the S-box.
std::uint32_t substitute_word(std::uint32_t word) {
  const uint8x16_t state = vreinterpretq_u8_u32(vdupq_n_u32(word));
  return vgetq_lane_u32(vreinterpretq_u32_u8(vaeseq_u8(state, vdupq_n_u8(0))), 0);
}

inline uint8x16_t words(std::uint64_t low, std::uint64_t high) {
  return vreinterpretq_u8_u64(vcombine_u64(vcreate_u64(low), vcreate_u64(high)));
}

}  // namespace

void expand_key_armv8(const std::uint8_t* key, RoundKeys& keys) { expand_key_with(substitute_word, key, keys); }

void aes_counter_armv8(const RoundKeys& keys, std::uint64_t first_block, std::size_t blocks, std::uint8_t* out) {
  const Keys k = load(keys);
  for (std::size_t done = 0; done < blocks; done += kInFlight) {
    uint8x16_t x[kInFlight];
    for (std::size_t i = 0; i < kInFlight; ++i) x[i] = words(0, __builtin_bswap64(first_block + done + i));
    encrypt(k, x);
    if (blocks - done >= kInFlight)
      for (std::size_t i = 0; i < kInFlight; ++i) vst1q_u8(out + kBlockBytes * (done + i), x[i]);
    else
      for (std::size_t i = 0; i < blocks - done; ++i) vst1q_u8(out + kBlockBytes * (done + i), x[i]);
  }
}

void aes_encrypt_armv8(const RoundKeys& keys, const std::uint8_t* x, std::size_t n, std::uint8_t* out) {
  const Keys k = load(keys);
  for (std::size_t done = 0; done < n; done += kInFlight) {
    const std::size_t now = n - done < kInFlight ? n - done : kInFlight;
    uint8x16_t blocks[kInFlight];
    for (std::size_t i = 0; i < kInFlight; ++i)
      blocks[i] = i < now ? vld1q_u8(x + kBlockBytes * (done + i)) : vdupq_n_u8(0);
    encrypt(k, blocks);
    for (std::size_t i = 0; i < now; ++i) vst1q_u8(out + kBlockBytes * (done + i), blocks[i]);
  }
}

void aes_hash_armv8(const RoundKeys& keys, const std::uint8_t* x, const std::uint64_t* tweaks, std::size_t n,
                    std::uint8_t* out) {
  const Keys k = load(keys);
  for (std::size_t done = 0; done < n; done += kInFlight) {
    const std::size_t now = n - done < kInFlight ? n - done : kInFlight;
    uint8x16_t first[kInFlight], second[kInFlight];
    for (std::size_t i = 0; i < kInFlight; ++i)
      first[i] = i < now ? vld1q_u8(x + kBlockBytes * (done + i)) : vdupq_n_u8(0);
    encrypt(k, first);
    for (std::size_t i = 0; i < kInFlight; ++i)
      second[i] = veorq_u8(first[i], words(i < now ? tweaks[done + i] : 0, 0));
    encrypt(k, second);
    for (std::size_t i = 0; i < now; ++i) vst1q_u8(out + kBlockBytes * (done + i), veorq_u8(first[i], second[i]));
  }
}

}  // namespace aero
