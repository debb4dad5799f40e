// Streams, sampling, the hash and bit transposition: what is built on AES, and what goes with it.
#include "aes.h"
#include "bind.h"
#include "sample.h"
#include "transpose.h"

namespace aero {
namespace {

RoundKeys expand(const nb::bytes& key) {
  require(key.size() == kBlockBytes, "key must have 16 bytes");
  RoundKeys keys;
  expand_key(static_cast<const std::uint8_t*>(key.data()), keys);
  return keys;
}

// Binds one sampler: (key, first_block, its parameters, out) -> the next block.
template <typename T, typename Sampler, typename... Parameters>
std::uint64_t sample(const nb::bytes& key, std::uint64_t first_block, const Out<T, 1>& out, Sampler sampler,
                     Parameters... parameters) {
  // No sampler looks at more than a few blocks for each result, so the counter cannot wrap around.
  require(first_block < std::uint64_t{1} << 60, "first_block must be below 2^60");
  const RoundKeys keys = expand(key);
  nb::gil_scoped_release unlocked;
  return sampler(keys, first_block, out.size(), parameters..., out.data());
}

std::uint64_t bytes(nb::bytes key, std::uint64_t first_block, Out<std::uint8_t, 1> out) {
  return sample(key, first_block, out, sample_bytes);
}

std::uint64_t ring(nb::bytes key, std::uint64_t first_block, int bits, Out<std::uint64_t, 1> out) {
  require(1 <= bits && bits <= 64, "bits must be 1 to 64");
  return sample(key, first_block, out, sample_ring, bits);
}

std::uint64_t below(nb::bytes key, std::uint64_t first_block, std::uint64_t q, Out<std::uint64_t, 1> out) {
  require(1 <= q && q <= std::uint64_t{1} << 62, "q must be 1 to 2^62");
  return sample(key, first_block, out, sample_below, q);
}

std::uint64_t ternary(nb::bytes key, std::uint64_t first_block, Out<std::int8_t, 1> out) {
  return sample(key, first_block, out, sample_ternary);
}

std::uint64_t binomial(nb::bytes key, std::uint64_t first_block, int eta, Out<std::int8_t, 1> out) {
  require(1 <= eta && eta <= 32, "eta must be 1 to 32");
  return sample(key, first_block, out, sample_binomial, eta);
}

std::uint64_t table(nb::bytes key, std::uint64_t first_block, In<std::uint64_t, 1> thresholds,
                    Out<std::int8_t, 1> out) {
  require(thresholds.size() <= 127, "thresholds must be 127 at most");
  for (std::size_t i = 0; i < thresholds.size(); ++i)
    require(thresholds.data()[i] < std::uint64_t{1} << 63, "thresholds must be below 2^63");
  return sample(key, first_block, out, sample_table, thresholds.data(), thresholds.size());
}

std::uint64_t bits(nb::bytes key, std::uint64_t first_block, Out<std::uint8_t, 1> out) {
  return sample(key, first_block, out, sample_bits);
}

void hash(nb::bytes key, In<std::uint8_t, 2> blocks, In<std::uint64_t, 1> tweaks, Out<std::uint8_t, 2> out) {
  const std::size_t n = blocks.shape(0);
  require(blocks.shape(1) == kBlockBytes && out.shape(1) == kBlockBytes, "blocks must have 16 bytes");
  require(tweaks.size() == n && out.shape(0) == n, "blocks, tweaks and out must be of one length");
  const RoundKeys keys = expand(key);
  nb::gil_scoped_release unlocked;
  aes_hash(keys, blocks.data(), tweaks.data(), n, out.data());
}

void transpose(In<std::uint8_t, 2> rows, Out<std::uint8_t, 2> out) {
  require(rows.shape(0) == kRows, "there must be 128 rows");
  require(out.shape(0) == 8 * rows.shape(1) && out.shape(1) == kRows / 8, "out must have 16 bytes for each column");
  nb::gil_scoped_release unlocked;
  transpose_128(rows.data(), 8 * rows.shape(1), out.data());
}

}  // namespace

void bind_symmetric(nb::module_& m) {
  const auto key = nb::arg("key");
  const auto first_block = nb::arg("first_block");
  m.def("sample_bytes", bytes, key, first_block, array("out"));
  m.def("sample_ring", ring, key, first_block, nb::arg("bits"), array("out"));
  m.def("sample_below", below, key, first_block, nb::arg("q"), array("out"));
  m.def("sample_ternary", ternary, key, first_block, array("out"));
  m.def("sample_binomial", binomial, key, first_block, nb::arg("eta"), array("out"));
  m.def("sample_table", table, key, first_block, array("thresholds"), array("out"));
  m.def("sample_bits", bits, key, first_block, array("out"));
  m.def("aes_hash", hash, key, array("blocks"), array("tweaks"), array("out"));
  m.def("transpose_128", transpose, array("rows"), array("out"));
}

}  // namespace aero
