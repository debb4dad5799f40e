#include "leaf_sums.h"

#include <cstring>
#include <vector>

#include "aes.h"

namespace aero {
namespace {

constexpr std::size_t kTile = 1024;  // bytes of each leaf's stream at a time: sixteen leaves stay in the first cache

inline void add(std::uint8_t* to, const std::uint8_t* from, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) to[i] ^= from[i];
}

}  // namespace

void leaf_sums(const std::uint8_t* leaf_keys, std::size_t groups, int k, std::uint64_t first_block,
               std::size_t row_bytes, std::uint8_t* sums, std::uint8_t* rows) {
  const std::size_t leaves = std::size_t{1} << k;
  std::vector<RoundKeys> keys(leaves);
  std::vector<std::uint8_t> streams(leaves * kTile);
  for (std::size_t group = 0; group < groups; ++group) {
    for (std::size_t x = 0; x < leaves; ++x) expand_key(leaf_keys + kBlockBytes * (group * leaves + x), keys[x]);
    for (std::size_t done = 0; done < row_bytes; done += kTile) {
      const std::size_t now = row_bytes - done < kTile ? row_bytes - done : kTile;
      for (std::size_t x = 0; x < leaves; ++x)
        aes_counter(keys[x], first_block + done / kBlockBytes, now / kBlockBytes, &streams[kTile * x]);
      // The top bit's half is summed and folded onto the other half, then the next bit's.
      for (int bit = k - 1; bit >= 0; --bit) {
        const std::size_t half = std::size_t{1} << bit;
        std::uint8_t* row = rows + row_bytes * (group * static_cast<std::size_t>(k) + static_cast<std::size_t>(bit)) + done;
        std::memcpy(row, &streams[kTile * half], now);
        for (std::size_t x = 1; x < half; ++x) add(row, &streams[kTile * (half + x)], now);
        for (std::size_t x = 0; x < half; ++x) add(&streams[kTile * x], &streams[kTile * (half + x)], now);
      }
      std::memcpy(sums + row_bytes * group + done, streams.data(), now);
    }
  }
}

}  // namespace aero
