#include "bind.h"
#include "ntt.h"

namespace aero {
namespace {

void bind_ntt(nb::module_& m) {
  m.def("is_prime", &is_prime, nb::arg("n"));
  nb::class_<Ntt>(m, "Ntt")
      .def(nb::init<std::uint32_t, std::uint64_t>(), nb::arg("n"), nb::arg("q"))
      .def_prop_ro("psi", &Ntt::psi)
      .def("exponents",
           [](const Ntt& t, Out<std::uint32_t, 1> out) {
             require(out.shape(0) == t.n(), "exponents: wrong length");
             for (std::uint32_t p = 0; p < t.n(); ++p) out.data()[p] = t.exponent(p);
           })
      .def(
          "forward",
          [](const Ntt& t, Out<std::uint64_t, 2> a) {
            require(a.shape(1) == t.n(), "forward: the last axis must be n");
            nb::gil_scoped_release release;
            t.forward(a.data(), a.shape(0));
          },
          array("a"))
      .def(
          "inverse",
          [](const Ntt& t, Out<std::uint64_t, 2> a) {
            require(a.shape(1) == t.n(), "inverse: the last axis must be n");
            nb::gil_scoped_release release;
            t.inverse(a.data(), a.shape(0));
          },
          array("a"))
      .def(
          "forward_front",
          [](const Ntt& t, In<std::uint64_t, 2> in, Out<std::uint64_t, 2> out) {
            const std::size_t front = in.shape(1);
            require(front >= kRun && front <= t.n() && !(front & (front - 1)), "forward_front: bad number of coefficients");
            require(out.shape(0) == in.shape(0) && out.shape(1) == t.n(), "forward_front: shapes differ");
            nb::gil_scoped_release release;
            t.forward_front(in.data(), static_cast<std::uint32_t>(front), out.data(), in.shape(0));
          },
          array("coefficients"), array("out"));
}

}  // namespace

void bind_lattice(nb::module_& m) { bind_ntt(m); }

}  // namespace aero
