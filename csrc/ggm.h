// Trees for silent OT: the correlated GGM tree of Guo et al., "Half-Tree" (2022, ePrint 2022/1431, section 4).
//
// Nodes x_j of a level have the children H(x_j) and x_j ^ H(x_j), so that every level of the tree sums up to the same
// delta; level 1 is root, root ^ delta. H(x) = pi(s(x)) ^ s(x), s(low, high) = (high, low ^ high) on 64-bit halves, and
// pi is AES under the key of the tree, AES_S(2^56 domain + tree): the circular correlation robust hash of Guo, Katz,
// Wang and Yu 2020, section 7.3. Keys differ between trees so that an attack on many trees at once gains nothing.
#pragma once

#include <cstddef>
#include <cstdint>

#include "aes.h"

namespace aero {

constexpr int kMaxDepth = 16;

// All of `trees` trees from number `first_tree` on: sums[tree][level - 1] = XOR of the left children of that level, for
// level = 1, ..., depth, and the 2^depth leaves of each tree with their lowest bit cleared. `leaves` or `sums` may be
// null and is then not written.
void grow_trees(const RoundKeys& session, std::uint64_t domain, std::uint64_t first_tree, std::size_t trees, int depth,
                const std::uint8_t* delta, const std::uint8_t* roots, std::uint8_t* sums, std::uint8_t* leaves);

// The trees without one leaf each, as their receiver has them: bits[tree][level - 1] says on which side of its parent
// the known sibling of the unknown path is, and sums[tree][level - 1] is the sum of all nodes of the level on that side.
// Leaves as above; the unknown leaf is replaced by its XOR with delta, whose lowest bit is taken to be one.
// Which addresses are touched depends on the bits, which are this party's own.
void grow_punctured_trees(const RoundKeys& session, std::uint64_t domain, std::uint64_t first_tree, std::size_t trees,
                          int depth, const std::uint8_t* bits, const std::uint8_t* sums, std::uint8_t* leaves);

// One level: from `count` parents x to children[2 j] = H(x_j), children[2 j + 1] = x_j ^ H(x_j), unless `children` is
// null, and to the sum of the left ones. H is under the key of the tree.
void grow_level_avx512(const RoundKeys& keys, const std::uint8_t* parents, std::size_t count, std::uint8_t* children,
                       std::uint8_t* left_sum);

}  // namespace aero
