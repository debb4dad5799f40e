// The tables of small oblivious transfers.
#include "bind.h"
#include "leaf_ot.h"

namespace aero {
namespace {

using Bytes = In<std::uint8_t, 1>;

void check(std::size_t n, int width, int size) {
  require(1 <= width && width <= 4, "width must be 1 to 4");
  require(1 <= size && size <= 2, "size must be 1 or 2");
  require(n < std::size_t{1} << 40, "there are too many digits");
}

void tables(In<std::uint8_t, 2> blocks, Bytes digits, Bytes corrections, Bytes masks, int width, int size,
            Out<std::uint64_t, 1> out) {
  const std::size_t n = digits.size();
  check(n, width, size);
  require(blocks.shape(0) == 2 * n * static_cast<std::size_t>(width) && blocks.shape(1) == 16,
          "blocks must be two of 16 bytes for each bit of each digit");
  require(corrections.size() == n && masks.size() == n && out.size() == n, "arrays must be of one length");
  // Otherwise a shift could leave its word.
  std::uint8_t any = 0;
  for (std::size_t k = 0; k < n; ++k) any |= digits.data()[k];
  require(any >> width == 0, "a digit does not fit its width");
  nb::gil_scoped_release unlocked;
  leaf_tables(blocks.data(), digits.data(), corrections.data(), masks.data(), n, width, size, out.data());
}

void choices(Bytes bits, In<std::uint8_t, 2> blocks, Bytes digits, int width, int size, Out<std::uint8_t, 1> corrections,
             Out<std::uint8_t, 1> pads) {
  const std::size_t n = digits.size();
  check(n, width, size);
  require(blocks.shape(0) == n * static_cast<std::size_t>(width) && blocks.shape(1) == 16,
          "blocks must be one of 16 bytes for each bit of each digit");
  require(bits.size() == blocks.shape(0) && corrections.size() == n && pads.size() == n,
          "arrays must be of one length");
  nb::gil_scoped_release unlocked;
  leaf_choices(bits.data(), blocks.data(), digits.data(), n, width, size, corrections.data(), pads.data());
}

void open(In<std::uint64_t, 1> tables, Bytes digits, Bytes corrections, Bytes pads, int size,
          Out<std::uint8_t, 1> out) {
  const std::size_t n = digits.size();
  check(n, 1, size);
  require(tables.size() == n && corrections.size() == n && pads.size() == n && out.size() == n,
          "arrays must be of one length");
  nb::gil_scoped_release unlocked;
  leaf_open(tables.data(), digits.data(), corrections.data(), pads.data(), n, size, out.data());
}

}  // namespace

void bind_leaf_ot(nb::module_& m) {
  const auto width = nb::arg("width"), size = nb::arg("size");
  m.def("leaf_tables", tables, array("blocks"), array("digits"), array("corrections"), array("masks"), width, size,
        array("out"));
  m.def("leaf_choices", choices, array("bits"), array("blocks"), array("digits"), width, size, array("corrections"),
        array("pads"));
  m.def("leaf_open", open, array("tables"), array("digits"), array("corrections"), array("pads"), size, array("out"));
}

}  // namespace aero
