#include "local_code.h"

#include <cstring>

#include "dispatch.h"

namespace aero {
namespace {

constexpr std::size_t kWords = 4;  // of the stream, for one output
constexpr std::size_t kTile = 128, kLongTile = 2048;  // outputs

typedef std::uint64_t Block __attribute__((vector_size(16)));

inline Block load(const std::uint8_t* bytes) {
  Block block;
  std::memcpy(&block, bytes, sizeof block);
  return block;
}

// The sum of the three places that a word names, where `mask` is that of a place times kBlockBytes.
inline Block three(const std::uint8_t* table, std::uint64_t mask, std::uint64_t word) {
  return load(table + (word << 4 & mask)) ^ load(table + (word >> 17 & mask)) ^ load(table + (word >> 38 & mask));
}

}  // namespace

// No place depends on what was read at another, and an output takes few instructions: the processor itself has the places
// of several outputs on their way at any time, so that asking for them ahead would only add work.
void add_code(const LocalCode& code, std::uint64_t first, std::size_t n, std::uint8_t* inout) {
  static_assert(kCodeWeight == 10 && kBlockBytes == 1 << 4, "three words of three places and one");
  const std::uint8_t* const table = code.table;
  const std::uint64_t mask = ((std::uint64_t{1} << code.log_size) - 1) << 4;
  const std::size_t tile = level() == Level::portable ? kLongTile : kTile;  // that cipher is faster in long runs
  alignas(64) std::uint64_t words[kWords * kLongTile];
  for (std::size_t done = 0; done < n; done += tile) {
    const std::size_t now = n - done < tile ? n - done : tile;
    aes_counter(code.key, 2 * (first + done), 2 * now, reinterpret_cast<std::uint8_t*>(words));
    for (std::size_t j = 0; j < now; ++j) {
      const std::uint64_t* word = words + kWords * j;
      std::uint8_t* to = inout + kBlockBytes * (done + j);
      const Block sum = (load(to) ^ load(table + (word[3] << 4 & mask))) ^ three(table, mask, word[0]) ^
                        (three(table, mask, word[1]) ^ three(table, mask, word[2]));
      std::memcpy(to, &sum, sizeof sum);
    }
  }
}

}  // namespace aero
