#include "local_code.h"

#include <cstring>

#include "parallel.h"

namespace aero {
namespace {

constexpr std::size_t kTile = 256;  // outputs
constexpr std::size_t kWordsEach = 64;  // of one output, for in_parallel: reading from afar is slow
constexpr std::size_t kAhead = 12;  // outputs whose places are asked for before they are needed

typedef std::uint64_t Block __attribute__((vector_size(16)));

inline Block load(const std::uint8_t* bytes) {
  Block block;
  std::memcpy(&block, bytes, sizeof block);
  return block;
}

inline std::uint64_t place(const std::uint64_t* words, std::size_t l, std::uint64_t mask) {
  return words[l / 3] >> (21 * (l % 3)) & mask;
}

}  // namespace

void add_code(const RoundKeys& key, std::uint64_t first, const std::uint8_t* table, int log_size, std::size_t n,
              std::uint8_t* inout) {
  constexpr std::size_t kWords = 4;  // for one output
  const std::uint64_t mask = (std::uint64_t{1} << log_size) - 1;
  in_parallel(n, kWordsEach, [&](std::size_t begin, std::size_t end) {
    alignas(64) std::uint64_t words[kWords * kTile];
    for (std::size_t done = begin; done < end; done += kTile) {
      const std::size_t now = end - done < kTile ? end - done : kTile;
      aes_counter(key, 2 * (first + done), 2 * now, reinterpret_cast<std::uint8_t*>(words));
      for (std::size_t j = 0; j < now; ++j) {
        const std::uint64_t* at = words + kWords * j;
        const std::uint64_t* later = words + kWords * (j + kAhead < now ? j + kAhead : now - 1);
        for (std::size_t l = 0; l < kCodeWeight; ++l) __builtin_prefetch(table + kBlockBytes * place(later, l, mask));
        std::uint8_t* to = inout + kBlockBytes * (done + j);
        Block sum = load(to);
        for (std::size_t l = 0; l < kCodeWeight; ++l) sum ^= load(table + kBlockBytes * place(at, l, mask));
        std::memcpy(to, &sum, sizeof sum);
      }
    }
  });
}

}  // namespace aero
