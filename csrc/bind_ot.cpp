// Oblivious transfer: sums over leaves, trees and the code, the pads, the checks' hash.
#include <nanobind/stl/optional.h>

#include "bind.h"
#include "ggm.h"
#include "gf128.h"
#include "leaf_sums.h"
#include "local_code.h"
#include "ot_pads.h"

namespace aero {
namespace {

// Numbers of OTs, trees and keys stay below the place of the domain in a tweak.
constexpr std::uint64_t kMaxNumber = std::uint64_t{1} << 56;

RoundKeys expand(const nb::bytes& key) {
  require(key.size() == kBlockBytes, "key must have 16 bytes");
  RoundKeys keys;
  expand_key(static_cast<const std::uint8_t*>(key.data()), keys);
  return keys;
}

void require_blocks(bool condition) { require(condition, "blocks must have 16 bytes, and arrays fitting lengths"); }

void require_numbers(std::uint64_t domain, std::uint64_t first, std::size_t count) {
  require(domain < 256, "domain must be below 256");
  require(first < kMaxNumber && count < kMaxNumber - first, "numbers must be below 2^56");
}

void sums(In<std::uint8_t, 3> leaves, int k, std::uint64_t first_block, Out<std::uint8_t, 2> sums,
          Out<std::uint8_t, 2> rows) {
  require(1 <= k && k <= kMaxLeafBits, "k must be 1 to 8");
  const std::size_t groups = leaves.shape(0), row_bytes = sums.shape(1);
  require_blocks(leaves.shape(1) == std::size_t{1} << k && leaves.shape(2) == kBlockBytes);
  require_blocks(sums.shape(0) == groups && rows.shape(0) == groups * static_cast<std::size_t>(k));
  require_blocks(rows.shape(1) == row_bytes && row_bytes % kBlockBytes == 0);
  require(first_block < std::uint64_t{1} << 60, "first_block must be below 2^60");
  nb::gil_scoped_release unlocked;
  leaf_sums(leaves.data(), groups, k, first_block, row_bytes, sums.data(), rows.data());
}

void pads_of_sender(nb::bytes session, std::uint64_t domain, std::uint64_t first, In<std::uint8_t, 1> delta,
                    In<std::uint8_t, 2> k, Out<std::uint8_t, 3> out) {
  const std::size_t n = k.shape(0);
  require_blocks(delta.size() == kBlockBytes && k.shape(1) == kBlockBytes);
  require_blocks(out.shape(0) == n && out.shape(1) == 2 && out.shape(2) == kBlockBytes);
  require_numbers(domain, first, n);
  const RoundKeys keys = expand(session);
  nb::gil_scoped_release unlocked;
  sender_pads(keys, domain, first, delta.data(), k.data(), n, out.data());
}

void pads_of_receiver(nb::bytes session, std::uint64_t domain, std::uint64_t first, In<std::uint8_t, 2> m,
                      Out<std::uint8_t, 1> bits, Out<std::uint8_t, 2> out) {
  const std::size_t n = m.shape(0);
  require_blocks(m.shape(1) == kBlockBytes && bits.size() == n && out.shape(0) == n && out.shape(1) == kBlockBytes);
  require_numbers(domain, first, n);
  const RoundKeys keys = expand(session);
  nb::gil_scoped_release unlocked;
  receiver_pads(keys, domain, first, m.data(), n, bits.data(), out.data());
}

using Key = std::optional<nb::bytes>;
using Table = std::optional<In<std::uint8_t, 2>>;

void require_depth(std::size_t depth) { require(kMinDepth <= depth && depth <= kMaxDepth, "depth must be 2 to 16"); }

// Both or neither are given. Outputs are numbered through all trees.
std::optional<LocalCode> code_of(const Key& key, const Table& table, std::uint64_t trees, std::size_t depth) {
  require(key.has_value() == table.has_value(), "a code has a key and a table");
  if (!key) return std::nullopt;
  require(trees <= kMaxNumber >> depth, "numbers of outputs must be below 2^56");
  LocalCode code{expand(*key), table->data(), 0};
  while (code.log_size < kMaxLogSize && std::size_t{1} << code.log_size < table->shape(0)) ++code.log_size;
  require_blocks(table->shape(1) == kBlockBytes);
  require(std::size_t{1} << code.log_size == table->shape(0), "the table must have a power of two of blocks, at most 2^21");
  return code;
}

void trees(nb::bytes session, std::uint64_t domain, std::uint64_t first_tree, std::size_t depth,
           In<std::uint8_t, 1> delta, In<std::uint8_t, 2> roots, std::optional<Out<std::uint8_t, 3>> sums,
           std::optional<Out<std::uint8_t, 3>> leaves, Key code_key, Table table) {
  const std::size_t count = roots.shape(0);
  require_depth(depth);
  require_blocks(delta.size() == kBlockBytes && roots.shape(1) == kBlockBytes);
  if (sums)
    require_blocks(sums->shape(0) == count && sums->shape(1) == depth && sums->shape(2) == kBlockBytes);
  if (leaves)
    require_blocks(leaves->shape(0) == count && leaves->shape(1) == std::size_t{1} << depth &&
                   leaves->shape(2) == kBlockBytes);
  require_numbers(domain, first_tree, count);
  const RoundKeys keys = expand(session);
  const std::optional<LocalCode> code = code_of(code_key, table, first_tree + count, depth);
  nb::gil_scoped_release unlocked;
  grow_trees(keys, domain, first_tree, count, static_cast<int>(depth), delta.data(), roots.data(),
             sums ? sums->data() : nullptr, leaves ? leaves->data() : nullptr, code ? &*code : nullptr);
}

void punctured_trees(nb::bytes session, std::uint64_t domain, std::uint64_t first_tree, In<std::uint8_t, 2> bits,
                     In<std::uint8_t, 3> sums, Out<std::uint8_t, 3> leaves, Key code_key, Table table) {
  const std::size_t count = bits.shape(0), depth = bits.shape(1);
  require_depth(depth);
  require_blocks(sums.shape(0) == count && sums.shape(1) == depth && sums.shape(2) == kBlockBytes);
  require_blocks(leaves.shape(0) == count && leaves.shape(1) == std::size_t{1} << depth &&
                 leaves.shape(2) == kBlockBytes);
  require_numbers(domain, first_tree, count);
  std::uint8_t any = 0;
  for (std::size_t i = 0; i < bits.size(); ++i) any |= bits.data()[i];
  require(any <= 1, "bits must be 0 or 1");
  const RoundKeys keys = expand(session);
  const std::optional<LocalCode> code = code_of(code_key, table, first_tree + count, depth);
  nb::gil_scoped_release unlocked;
  grow_punctured_trees(keys, domain, first_tree, count, static_cast<int>(depth), bits.data(), sums.data(),
                       leaves.data(), code ? &*code : nullptr);
}

void dot(In<std::uint8_t, 2> x, In<std::uint8_t, 3> y, Out<std::uint8_t, 2> out, Out<std::uint8_t, 2> picked) {
  const std::size_t rows = y.shape(0), n = x.shape(0);
  require_blocks(x.shape(1) == kBlockBytes && y.shape(1) == n && y.shape(2) == kBlockBytes);
  for (const auto& result : {out, picked}) require_blocks(result.shape(0) == rows && result.shape(1) == kBlockBytes);
  nb::gil_scoped_release unlocked;
  gf128_dot(x.data(), y.data(), rows, n, out.data(), picked.data());
}

}  // namespace

void bind_ot(nb::module_& m) {
  const auto session = nb::arg("session");
  const auto domain = nb::arg("domain");
  const auto first = nb::arg("first");
  m.def("leaf_sums", sums, array("leaves"), nb::arg("k"), nb::arg("first_block"), array("sums"), array("rows"));
  m.def("sender_pads", pads_of_sender, session, domain, first, array("delta"), array("k"), array("out"));
  m.def("receiver_pads", pads_of_receiver, session, domain, first, array("m"), array("bits"), array("out"));
  const auto code_key = nb::arg("code_key").none();
  const auto table = nb::arg("table").noconvert().none();
  m.def("grow_trees", trees, session, domain, nb::arg("first_tree"), nb::arg("depth"), array("delta"), array("roots"),
        nb::arg("sums").noconvert().none(), nb::arg("leaves").noconvert().none(), code_key, table);
  m.def("grow_punctured_trees", punctured_trees, session, domain, nb::arg("first_tree"), array("bits"), array("sums"),
        array("leaves"), code_key, table);
  m.def("gf128_dot", dot, array("x"), array("y"), array("out"), array("picked"));
}

}  // namespace aero
