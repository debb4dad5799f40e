// Bit packing and ring products.
#include "bind.h"
#include "bitpack.h"
#include "ring.h"

namespace aero {
namespace {

void require_width(int width) { require(1 <= width && width <= 64, "width must be 1 to 64 bits"); }

bool pack(In<std::uint64_t, 1> values, int width, Out<std::uint8_t, 1> out) {
  require_width(width);
  require(out.size() == packed_bytes(values.size(), width), "out must have ceil(n width / 8) bytes");
  nb::gil_scoped_release unlocked;
  return bit_pack(values.data(), values.size(), width, out.data());
}

bool unpack(In<std::uint8_t, 1> bytes, int width, Out<std::uint64_t, 1> out) {
  require_width(width);
  require(bytes.size() == packed_bytes(out.size(), width), "the packed bytes must be ceil(n width / 8)");
  nb::gil_scoped_release unlocked;
  return bit_unpack(bytes.data(), out.size(), width, out.data());
}

void matmul(In<std::uint64_t, 3> a, In<std::uint64_t, 3> b, Out<std::uint64_t, 3> out) {
  const std::size_t batch = out.shape(0), m = out.shape(1), n = out.shape(2), k = a.shape(2);
  require(a.shape(0) == batch || a.shape(0) == 1, "a must hold one matrix, or one for each result");
  require(b.shape(0) == batch || b.shape(0) == 1, "b must hold one matrix, or one for each result");
  require(a.shape(1) == m && b.shape(1) == k && b.shape(2) == n, "the shapes must be (m, k), (k, n) and (m, n)");
  nb::gil_scoped_release unlocked;
  ring_matmul(a.data(), a.shape(0) == 1 ? 0 : m * k, b.data(), b.shape(0) == 1 ? 0 : k * n, out.data(), batch, m, k, n);
}

}  // namespace

void bind_ring(nb::module_& m) {
  m.def("bit_pack", pack, array("values"), nb::arg("width"), array("out"));
  m.def("bit_unpack", unpack, array("bytes"), nb::arg("width"), array("out"));
  m.def("ring_matmul", matmul, array("a"), array("b"), array("out"));
}

}  // namespace aero
