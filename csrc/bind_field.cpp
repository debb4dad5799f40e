// Powers in prime fields.
#include "bind.h"
#include "field_power.h"

namespace aero {
namespace {

void power(In<std::uint64_t, 1> exponents, int fraction_bits, int mantissa_bits, std::uint64_t p,
           Out<std::uint64_t, 1> out) {
  require(out.size() == exponents.size(), "out must be as long as the exponents");
  require(0 <= fraction_bits && fraction_bits <= kMaxFractionBits, "an exponent has 0 to 32 fractional bits");
  require(1 <= mantissa_bits && mantissa_bits <= kMaxMantissaBits, "a mantissa has 1 to 16 fractional bits");
  require(p % 2 == 1 && p > 2 && p >> 51 == 0, "p must be an odd prime below 2^51");
  nb::gil_scoped_release unlocked;
  field_power(exponents.data(), exponents.size(), fraction_bits, mantissa_bits, p, out.data());
}

}  // namespace

void bind_field(nb::module_& m) {
  m.def("field_power", power, array("exponents"), nb::arg("fraction_bits"), nb::arg("mantissa_bits"), nb::arg("p"),
        array("out"));
}

}  // namespace aero
