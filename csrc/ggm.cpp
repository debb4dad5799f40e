#include "ggm.h"

#include <cstring>
#include <vector>

#include "dispatch.h"
#include "ot_pads.h"
#include "parallel.h"

namespace aero {
namespace {

struct Block {
  std::uint64_t word[2];
};

inline Block operator^(Block a, Block b) { return {{a.word[0] ^ b.word[0], a.word[1] ^ b.word[1]}}; }

inline Block load(const std::uint8_t* bytes) {
  Block block;
  std::memcpy(&block, bytes, sizeof block);
  return block;
}

void grow_level_portable(const RoundKeys& key, const std::uint8_t* parents, std::size_t count, std::uint8_t* children,
                         std::uint8_t* left_sum) {
  constexpr std::size_t kBatch = 64;
  Block s[kBatch], h[kBatch], sum = {{0, 0}};
  for (std::size_t done = 0; done < count; done += kBatch) {
    const std::size_t now = count - done < kBatch ? count - done : kBatch;
    const std::uint8_t* from = parents + kBlockBytes * done;
    for (std::size_t j = 0; j < now; ++j) {
      const Block x = load(from + kBlockBytes * j);
      s[j] = {{x.word[1], x.word[0] ^ x.word[1]}};
    }
    aes_encrypt(key, reinterpret_cast<const std::uint8_t*>(s), now, reinterpret_cast<std::uint8_t*>(h));
    for (std::size_t j = 0; j < now; ++j) {
      const Block left = h[j] ^ s[j];
      sum = sum ^ left;
      if (children == nullptr) continue;
      const Block pair[2] = {left, left ^ load(from + kBlockBytes * j)};
      std::memcpy(children + 2 * kBlockBytes * (done + j), pair, sizeof pair);
    }
  }
  std::memcpy(left_sum, &sum, sizeof sum);
}

void grow_level(const RoundKeys& key, const std::uint8_t* parents, std::size_t count, std::uint8_t* children,
                std::uint8_t* left_sum) {
#if AERO_X86
  if (level() >= Level::avx512) return grow_level_avx512(key, parents, count, children, left_sum);
#endif
  grow_level_portable(key, parents, count, children, left_sum);
}

// Room for one tree: a level and the next one.
struct Scratch {
  std::vector<Block> parents, children;

  explicit Scratch(int depth) : parents(std::size_t{1} << depth), children(std::size_t{1} << depth) {}

  // From `count` parents to twice as many children, who are then the parents. Returns the sum of the left ones.
  Block grow(const RoundKeys& key, std::size_t count) {
    const Block sum = left_children(key, count, reinterpret_cast<std::uint8_t*>(children.data()));
    parents.swap(children);
    return sum;
  }

  // The sum of the left children of `count` parents, and all children.
  Block left_children(const RoundKeys& key, std::size_t count, std::uint8_t* all = nullptr) const {
    Block sum;
    grow_level(key, reinterpret_cast<const std::uint8_t*>(parents.data()), count, all,
               reinterpret_cast<std::uint8_t*>(&sum));
    return sum;
  }

  // The leaves with their lowest bit cleared, and the sum of all.
  Block write_leaves(std::size_t count, std::uint8_t* out) const {
    Block sum = {{0, 0}};
    for (std::size_t j = 0; j < count; ++j) {
      Block leaf = parents[j];
      sum = sum ^ leaf;
      leaf.word[0] &= ~std::uint64_t{1};
      std::memcpy(out + kBlockBytes * j, &leaf, sizeof leaf);
    }
    return sum;
  }
};

}  // namespace

void grow_trees(const RoundKeys& session, std::uint64_t domain, std::uint64_t first_tree, std::size_t trees, int depth,
                const std::uint8_t* delta, const std::uint8_t* roots, std::uint8_t* sums, std::uint8_t* leaves) {
  const std::size_t width = std::size_t{1} << depth;
  in_parallel(trees, 8 * width, [&](std::size_t begin, std::size_t end) {
    Scratch scratch(depth);
    RoundKeys key;
    for (std::size_t tree = begin; tree < end; ++tree) {
      derived_key(session, domain, first_tree + tree, key);
      scratch.parents[0] = load(roots + kBlockBytes * tree);
      scratch.parents[1] = scratch.parents[0] ^ load(delta);
      Block left = scratch.parents[0];
      for (int level = 1;; ++level) {
        const std::size_t at = tree * static_cast<std::size_t>(depth) + static_cast<std::size_t>(level - 1);
        if (sums != nullptr) std::memcpy(sums + kBlockBytes * at, &left, sizeof left);
        if (level == depth) break;
        const std::size_t count = std::size_t{1} << level;
        const bool last = leaves == nullptr && level + 1 == depth;
        left = last ? scratch.left_children(key, count) : scratch.grow(key, count);
      }
      if (leaves != nullptr) scratch.write_leaves(width, leaves + kBlockBytes * width * tree);
    }
  });
}

void grow_punctured_trees(const RoundKeys& session, std::uint64_t domain, std::uint64_t first_tree, std::size_t trees,
                          int depth, const std::uint8_t* bits, const std::uint8_t* sums, std::uint8_t* leaves) {
  const std::size_t width = std::size_t{1} << depth;
  in_parallel(trees, 8 * width, [&](std::size_t begin, std::size_t end) {
    Scratch scratch(depth);
    RoundKeys key;
    for (std::size_t tree = begin; tree < end; ++tree) {
      derived_key(session, domain, first_tree + tree, key);
      const std::uint8_t* side = bits + static_cast<std::size_t>(depth) * tree;
      const std::uint8_t* sum = sums + kBlockBytes * static_cast<std::size_t>(depth) * tree;
      std::size_t unknown = 1 - side[0];
      scratch.parents[1 - unknown] = load(sum);
      scratch.parents[unknown] = {{0, 0}};
      for (int level = 2; level <= depth; ++level) {
        const std::size_t count = std::size_t{1} << (level - 1), known_side = side[level - 1];
        Block known[2];  // of both sides, without the two children of the unknown node
        known[0] = scratch.grow(key, count);
        std::vector<Block>& nodes = scratch.parents;
        known[0] = known[0] ^ nodes[2 * unknown];
        known[1] = {{0, 0}};
        nodes[2 * unknown] = nodes[2 * unknown + 1] = {{0, 0}};
        for (std::size_t j = 0; j < count; ++j) known[1] = known[1] ^ nodes[2 * j + 1];
        nodes[2 * unknown + known_side] =
            load(sum + kBlockBytes * static_cast<std::size_t>(level - 1)) ^ known[known_side];
        unknown = 2 * unknown + 1 - known_side;
      }
      std::uint8_t* out = leaves + kBlockBytes * width * tree;
      Block offset = scratch.write_leaves(width, out);  // all the others together: the unknown leaf plus delta
      offset.word[0] |= 1;
      std::memcpy(out + kBlockBytes * unknown, &offset, sizeof offset);
    }
  });
}

}  // namespace aero
