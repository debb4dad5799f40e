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
#include "local_code.h"

namespace aero {

constexpr int kMinDepth = 2, kMaxDepth = 16;

// All of `trees` trees from number `first_tree` on: sums[tree][level - 1] = XOR of the left children of that level, for
// level = 1, ..., depth, and the 2^depth leaves of each tree with their lowest bit cleared. `leaves` or `sums` may be
// null and is then not written. Unless `code` is null, its output number 2^depth tree + j is added to leaf j.
void grow_trees(const RoundKeys& session, std::uint64_t domain, std::uint64_t first_tree, std::size_t trees, int depth,
                const std::uint8_t* delta, const std::uint8_t* roots, std::uint8_t* sums, std::uint8_t* leaves,
                const LocalCode* code);

// The trees without one leaf each, as their receiver has them: bits[tree][level - 1] says on which side of its parent
// the known sibling of the unknown path is, and sums[tree][level - 1] is the sum of all nodes of the level on that side.
// Leaves as above; the unknown leaf is replaced by its XOR with delta, whose lowest bit is taken to be one.
// No address and no branch depends on the bits.
void grow_punctured_trees(const RoundKeys& session, std::uint64_t domain, std::uint64_t first_tree, std::size_t trees,
                          int depth, const std::uint8_t* bits, const std::uint8_t* sums, std::uint8_t* leaves,
                          const LocalCode* code);

// What becomes of the children of a level: nothing, or nodes, or leaves with their lowest bit cleared.
enum class Children { none, nodes, leaves };

// One level in place: from the `count` nodes x_j to H(x_j), x_j ^ H(x_j), for j = 0, 1, ..., and to the sum of all H(x_j).
// H is under the key of the tree. In the variants `count` is a multiple of eight.
void grow_level_avx2(const RoundKeys& keys, std::uint8_t* nodes, std::size_t count, Children children,
                     std::uint8_t* left_sum);
void grow_level_avx512(const RoundKeys& keys, std::uint8_t* nodes, std::size_t count, Children children,
                       std::uint8_t* left_sum);

}  // namespace aero
