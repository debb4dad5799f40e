#include "ggm.h"

#include <cstring>
#include <vector>

#include "aes_planes.h"
#include "dispatch.h"
#include "masks.h"
#include "ot_pads.h"
#include "parallel.h"

#if AERO_X86
#include <emmintrin.h>
#endif

namespace aero {
namespace {

struct Block {
  std::uint64_t word[2];
};

typedef std::uint32_t Quads __attribute__((vector_size(16)));

constexpr Block kZero = {{0, 0}};
constexpr Block kAll = {{~std::uint64_t{0}, ~std::uint64_t{0}}};
constexpr std::uint64_t kLowestBit = 1;
constexpr Block kLeaf = {{~kLowestBit, ~std::uint64_t{0}}};  // a leaf's lowest bit is cleared

inline Block operator&(Block a, Block b) { return {{a.word[0] & b.word[0], a.word[1] & b.word[1]}}; }
inline Block operator^(Block a, Block b) { return {{a.word[0] ^ b.word[0], a.word[1] ^ b.word[1]}}; }

inline Block load(const std::uint8_t* bytes) {
  Block block;
  std::memcpy(&block, bytes, sizeof block);
  return block;
}

inline void store(std::uint8_t* bytes, Block block) { std::memcpy(bytes, &block, sizeof block); }

// All ones where the number, 0 or 1, is zero.
inline Block all_if_zero(std::uint8_t bit) { return {{ones_if_zero(bit), ones_if_zero(bit)}}; }

// s(low, high) = (high, low ^ high)
inline Block mix(Block x) { return {{x.word[1], x.word[0] ^ x.word[1]}}; }

// H(0) = pi(0), as s(0) = 0.
Block hash_of_zero(const RoundKeys& key) {
  Block zero = kZero;
  aes_encrypt(key, reinterpret_cast<const std::uint8_t*>(&zero), 1, reinterpret_cast<std::uint8_t*>(&zero));
  return zero;
}

// See ggm.h; any count.
void grow_level_portable(const RoundKeys& key, std::uint8_t* nodes, std::size_t count, Children children,
                         std::uint8_t* left_sum) {
  constexpr std::size_t kBatch = 1024;  // the portable cipher takes a while to prepare a key
  const Block kept = children == Children::leaves ? kLeaf : kAll;
  Block h[kBatch], sum = kZero;
  for (std::size_t left = count; left > 0;) {
    const std::size_t now = left < kBatch ? left : kBatch;
    left -= now;
    const std::uint8_t* from = nodes + kBlockBytes * left;
    for (std::size_t j = 0; j < now; ++j) h[j] = mix(load(from + kBlockBytes * j));
    aes_encrypt(key, reinterpret_cast<const std::uint8_t*>(h), now, reinterpret_cast<std::uint8_t*>(h));
    for (std::size_t j = now; j-- > 0;) {
      const Block x = load(from + kBlockBytes * j), first = h[j] ^ mix(x);
      sum = sum ^ first;
      if (children == Children::none) continue;
      std::uint8_t* pair = nodes + 2 * kBlockBytes * (left + j);
      store(pair, first & kept);
      store(pair + kBlockBytes, (first ^ x) & kept);
    }
  }
  store(left_sum, sum);
}

void grow_level(const RoundKeys& key, std::uint8_t* nodes, std::size_t count, Children children,
                std::uint8_t* left_sum) {
#if AERO_X86
  if (count % 8 == 0) {
    if (level() >= Level::avx512) return grow_level_avx512(key, nodes, count, children, left_sum);
    if (level() >= Level::avx2) return grow_level_avx2(key, nodes, count, children, left_sum);
  }
#endif
  grow_level_portable(key, nodes, count, children, left_sum);
}

// To memory without a place in the cache: the code's table needs that.
void store_afar(std::uint8_t* to, const std::uint8_t* from, std::size_t bytes) {
#if AERO_X86
  if (reinterpret_cast<std::uintptr_t>(to) % 16 == 0) {
    for (std::size_t i = 0; i < bytes; i += 16)
      _mm_stream_si128(reinterpret_cast<__m128i*>(to + i), _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i)));
    return _mm_sfence();  // such stores are in no order with others
  }
#endif
  std::memcpy(to, from, bytes);
}

// One tree, which grows level by level in one place.
class Tree {
 public:
  explicit Tree(int depth) : lines_((std::size_t{1} << depth) / 4) {}

  std::uint8_t* operator[](std::size_t j) { return reinterpret_cast<std::uint8_t*>(lines_.data()) + kBlockBytes * j; }

  // From `count` nodes to twice as many. Returns the sum of the left ones.
  Block grow(const RoundKeys& key, std::size_t count, Children children) {
    Block sum;
    grow_level(key, (*this)[0], count, children, reinterpret_cast<std::uint8_t*>(&sum));
    return sum;
  }

  // Adds to the children of a node, one of `count` nodes that had children: which of them, no address tells.
  void add_to_children(std::size_t node, std::size_t count, const Block (&children)[2]) {
    const Lanes left = {children[0].word[0], children[0].word[1]}, right = {children[1].word[0], children[1].word[1]};
    const auto wanted = static_cast<std::uint32_t>(node);
    const Quads here = {wanted, wanted, wanted, wanted}, one = {1, 1, 1, 1};
    Quads at = {};
    std::uint8_t* pair = (*this)[0];
    for (std::size_t j = 0; j < count; ++j, at += one, pair += 2 * kBlockBytes) {
      const Lanes mask = reinterpret_cast<Lanes>(at == here);
      Lanes nodes[2];
      std::memcpy(nodes, pair, sizeof nodes);
      nodes[0] ^= left & mask;
      nodes[1] ^= right & mask;
      std::memcpy(pair, nodes, sizeof nodes);
    }
  }

  // The leaves, plus the code if there is one; those alone are for a check that reads them at once.
  void write(std::uint64_t number, const LocalCode* code, std::uint8_t* out) {
    const std::size_t width = 4 * lines_.size();
    if (code == nullptr) {
      std::memcpy(out, (*this)[0], kBlockBytes * width);
      return;
    }
    add_code(*code, number * width, width, (*this)[0]);
    store_afar(out, (*this)[0], kBlockBytes * width);
  }

 private:
  struct alignas(64) Line {
    std::uint8_t bytes[64];
  };

  std::vector<Line> lines_;
};

// How many words of memory a tree reads and writes, for in_parallel.
std::size_t words_of_tree(int depth, const LocalCode* code) {
  constexpr std::size_t leaf = 8, output = 64;  // reading from afar is slow
  return (code == nullptr ? leaf : leaf + output) << depth;
}

}  // namespace

void grow_trees(const RoundKeys& session, std::uint64_t domain, std::uint64_t first_tree, std::size_t trees, int depth,
                const std::uint8_t* delta, const std::uint8_t* roots, std::uint8_t* sums, std::uint8_t* leaves,
                const LocalCode* code) {
  const Children last = leaves == nullptr ? Children::none : Children::leaves;
  in_parallel(trees, words_of_tree(depth, code), [&](std::size_t begin, std::size_t end) {
    Tree tree(depth);
    RoundKeys key;
    for (std::size_t i = begin; i < end; ++i) {
      derived_key(session, domain, first_tree + i, key);
      const Block root = load(roots + kBlockBytes * i);
      store(tree[0], root);
      store(tree[1], root ^ load(delta));
      Block left = root;
      for (int level = 1;; ++level) {
        const std::size_t at = i * static_cast<std::size_t>(depth) + static_cast<std::size_t>(level - 1);
        if (sums != nullptr) store(sums + kBlockBytes * at, left);
        if (level == depth) break;
        left = tree.grow(key, std::size_t{1} << level, level + 1 < depth ? Children::nodes : last);
      }
      if (leaves != nullptr) tree.write(first_tree + i, code, leaves + (kBlockBytes * i << depth));
    }
  });
}

void grow_punctured_trees(const RoundKeys& session, std::uint64_t domain, std::uint64_t first_tree, std::size_t trees,
                          int depth, const std::uint8_t* bits, const std::uint8_t* sums, std::uint8_t* leaves,
                          const LocalCode* code) {
  in_parallel(trees, words_of_tree(depth, code), [&](std::size_t begin, std::size_t end) {
    Tree tree(depth);
    RoundKeys key;
    for (std::size_t i = begin; i < end; ++i) {
      derived_key(session, domain, first_tree + i, key);
      const Block hashed = hash_of_zero(key);
      const std::uint8_t* side = bits + static_cast<std::size_t>(depth) * i;
      const std::uint8_t* sum = sums + kBlockBytes * static_cast<std::size_t>(depth) * i;
      std::size_t unknown = 1 - std::size_t{side[0]};
      Block all = load(sum);  // the sum of the level, in which the unknown node is zero
      store(tree[0], all & all_if_zero(side[0]));
      store(tree[1], all ^ (all & all_if_zero(side[0])));
      for (int level = 2; level <= depth; ++level) {
        const bool last = level == depth;
        const std::size_t parents = std::size_t{1} << (level - 1);
        const Block left = tree.grow(key, parents, last ? Children::leaves : Children::nodes);
        const Block known_left = all_if_zero(side[level - 1]), known_right = known_left ^ kAll;
        // As the right child is the left one plus the parent, so are their sums. The unknown node's two, which do not
        // count, are both H(0).
        const Block others = left ^ (all & known_right) ^ hashed;
        Block known = load(sum + kBlockBytes * static_cast<std::size_t>(level - 1)) ^ others;
        all = all ^ known;
        Block in_place = hashed, missing = kZero;
        if (last) {
          in_place = in_place & kLeaf;
          known = known & kLeaf;
          missing = all;  // all the others together: the unknown leaf plus delta
          missing.word[0] |= kLowestBit;
        }
        tree.add_to_children(unknown, parents, {in_place ^ (known & known_left) ^ (missing & known_right),
                                                in_place ^ (known & known_right) ^ (missing & known_left)});
        unknown = 2 * unknown + 1 - side[level - 1];
      }
      tree.write(first_tree + i, code, leaves + (kBlockBytes * i << depth));
    }
  });
}

}  // namespace aero
