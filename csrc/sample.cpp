#include "sample.h"

#include <algorithm>
#include <cstring>

#include "dispatch.h"
#include "sample_steps.h"

namespace aero {
namespace {

constexpr std::size_t kStretchBlocks = 256;  // 4 KiB of stream at a time, in the first-level cache
constexpr std::size_t kStretchBytes = kStretchBlocks * kBlockBytes;

struct Stretch {
  alignas(64) std::uint64_t words[kStretchBytes / 8];
  std::uint8_t* bytes() { return reinterpret_cast<std::uint8_t*>(words); }
};

constexpr std::size_t blocks_of(std::size_t bytes) { return (bytes + kBlockBytes - 1) / kBlockBytes; }

const SampleSteps& steps() {
  static constexpr SampleSteps portable = {accept_below, accept_ternary, binomial, count_reached, spread_bits};
#if AERO_X86
  if (level() >= Level::avx512) return kSampleStepsAvx512;
  if (level() >= Level::avx2) return kSampleStepsAvx2;
#endif
  return portable;
}

// Calls step(stretch, bytes, done) for successive stretches of a stream of `total` bytes, `done` bytes before each.
template <typename Step>
std::uint64_t each_stretch(const RoundKeys& keys, std::uint64_t first_block, std::size_t total, Step step) {
  Stretch stretch;
  for (std::size_t done = 0; done < total; done += kStretchBytes) {
    const std::size_t now = std::min(total - done, kStretchBytes);
    aes_counter(keys, first_block + done / kBlockBytes, blocks_of(now), stretch.bytes());
    step(stretch, now, done);
  }
  return first_block + blocks_of(total);
}

// Calls step(stretch, candidates, out, wanted) until n results are accepted; `width` bytes to a candidate.
template <typename T, typename Step>
std::uint64_t until_accepted(const RoundKeys& keys, std::uint64_t block, std::size_t n, std::size_t width, T* out,
                             Step step) {
  Stretch stretch;
  while (n > 0) {
    const std::size_t blocks = std::min(kStretchBlocks, blocks_of(n * width));
    aes_counter(keys, block, blocks, stretch.bytes());
    const Accepted used = step(stretch, blocks * kBlockBytes / width, out, n);
    out += used.results;
    n -= used.results;
    block += blocks_of(used.candidates * width);
  }
  return block;
}

}  // namespace

std::uint64_t sample_bytes(const RoundKeys& keys, std::uint64_t first_block, std::size_t n, std::uint8_t* out) {
  const std::size_t whole = n / kBlockBytes;
  aes_counter(keys, first_block, whole, out);
  if (n % kBlockBytes == 0) return first_block + whole;
  std::uint8_t last[kBlockBytes];
  aes_counter(keys, first_block + whole, 1, last);
  std::memcpy(out + whole * kBlockBytes, last, n % kBlockBytes);
  return first_block + whole + 1;
}

std::uint64_t sample_ring(const RoundKeys& keys, std::uint64_t first_block, std::size_t n, int bits,
                          std::uint64_t* out) {
  const std::uint64_t mask = ~std::uint64_t{0} >> (64 - bits);
  return each_stretch(keys, first_block, 8 * n, [&](Stretch& stretch, std::size_t now, std::size_t done) {
    for (std::size_t i = 0; i < now / 8; ++i) out[done / 8 + i] = stretch.words[i] & mask;
  });
}

std::uint64_t sample_below(const RoundKeys& keys, std::uint64_t first_block, std::size_t n, std::uint64_t q,
                           std::uint64_t* out) {
  std::uint64_t mask = 0;  // the smallest 2^k - 1 that covers q - 1
  while (mask < q - 1) mask = 2 * mask + 1;
  return until_accepted(keys, first_block, n, 8, out,
                        [&](Stretch& stretch, std::size_t count, std::uint64_t* to, std::size_t wanted) {
                          return steps().below(stretch.words, count, mask, q, to, wanted);
                        });
}

std::uint64_t sample_ternary(const RoundKeys& keys, std::uint64_t first_block, std::size_t n, std::int8_t* out) {
  return until_accepted(keys, first_block, n, 1, out,
                        [&](Stretch& stretch, std::size_t count, std::int8_t* to, std::size_t wanted) {
                          return steps().ternary(stretch.bytes(), count, to, wanted);
                        });
}

std::uint64_t sample_binomial(const RoundKeys& keys, std::uint64_t first_block, std::size_t n, int eta,
                              std::int8_t* out) {
  return each_stretch(keys, first_block, 8 * n, [&](Stretch& stretch, std::size_t now, std::size_t done) {
    steps().binomial(stretch.words, now / 8, eta, out + done / 8);
  });
}

std::uint64_t sample_table(const RoundKeys& keys, std::uint64_t first_block, std::size_t n,
                           const std::uint64_t* thresholds, std::size_t size, std::int8_t* out) {
  return each_stretch(keys, first_block, 8 * n, [&](Stretch& stretch, std::size_t now, std::size_t done) {
    steps().table(stretch.words, now / 8, thresholds, size, out + done / 8);
  });
}

std::uint64_t sample_bits(const RoundKeys& keys, std::uint64_t first_block, std::size_t n, std::uint8_t* out) {
  return each_stretch(keys, first_block, (n + 7) / 8, [&](Stretch& stretch, std::size_t now, std::size_t done) {
    const std::size_t whole = std::min(now, n / 8 - done);
    steps().bits(stretch.bytes(), whole, out + 8 * done);
    if (whole < now)
      for (std::size_t j = 0; j < n % 8; ++j) out[8 * (done + whole) + j] = (stretch.bytes()[whole] >> j) & 1;
  });
}

}  // namespace aero
