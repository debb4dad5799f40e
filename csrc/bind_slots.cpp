#include "bind.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <vector>

#include "slots.h"

namespace aero {
namespace {

using Words1 = In<std::uint64_t, 1>;
using Small1 = In<std::int8_t, 1>;

// Every array is flat here: slots.py knows the shapes, and these checks only keep the kernels inside their arrays.
void require_size(std::size_t actual, std::size_t expected) { require(actual == expected, "an array has the wrong size"); }

}  // namespace

void bind_slots(nb::module_& m) {
  m.def(
      "field_multiply",
      [](std::uint64_t p, Words1 x, Words1 y, Out<std::uint64_t, 1> out) {
        require(p > 1 && !(p >> kMaxPrimeBits), "p must be below 2^51");
        require_size(y.size(), x.size());
        require_size(out.size(), x.size());
        nb::gil_scoped_release release;
        field_multiply(p, x.data(), y.data(), x.size(), out.data());
      },
      nb::arg("p"), array("x"), array("y"), array("out"));

  nb::class_<SlotRing>(m, "SlotRing")
      .def(nb::init<std::uint32_t, std::uint64_t, const std::vector<std::uint64_t>&>(), nb::arg("n"), nb::arg("p"),
           nb::arg("primes"))
      .def(
          "secret",
          [](const SlotRing& t, Small1 small, Out<std::uint64_t, 1> out) {
            require_size(small.size(), t.n());
            require_size(out.size(), t.primes() * t.n());
            nb::gil_scoped_release release;
            slot_secret(t, small.data(), out.data());
          },
          array("small"), array("out"))
      .def(
          "encrypt",
          [](const SlotRing& t, Words1 secret, Words1 a, Small1 noise, std::optional<Words1> slots,
             Out<std::uint64_t, 1> b) {
            const std::size_t count = noise.size() / t.n();
            require_size(secret.size(), t.primes() * t.n());
            require_size(noise.size(), count * t.n());
            if (slots) require_size(slots->size(), count * t.n());
            require_size(a.size(), t.primes() * count * t.n());
            require_size(b.size(), a.size());
            nb::gil_scoped_release release;
            slot_encrypt(t, secret.data(), a.data(), noise.data(), slots ? slots->data() : nullptr, count, b.data());
          },
          array("secret"), array("a"), array("noise"), array("slots").none(), array("b"))
      .def(
          "respond",
          [](const SlotRing& t, Words1 b, Words1 a, Words1 slots, bool total, Words1 public_b, Words1 public_a,
             Small1 u, Small1 e, Out<std::uint64_t, 1> response, Out<std::uint64_t, 1> share) {
            const std::size_t ciphertexts = b.size() / (t.primes() * t.n()), count = slots.size() / t.n();
            require(count > 0 && (ciphertexts == count || ciphertexts == 1), "one ciphertext, or one for each product");
            const SlotProducts products{ciphertexts,     count,           total,    b.data(), a.data(), slots.data(),
                                        public_b.data(), public_a.data(), u.data(), e.data()};
            require_size(b.size(), ciphertexts * t.primes() * t.n());
            require_size(a.size(), b.size());
            require_size(slots.size(), count * t.n());
            require_size(public_b.size(), t.primes() * t.n());
            require_size(public_a.size(), t.primes() * t.n());
            for (std::size_t size : {u.size(), e.size(), share.size()}) require_size(size, products.results() * t.n());
            require_size(response.size(), t.kept() * products.results() * t.n());
            nb::gil_scoped_release release;
            slot_respond(t, products, response.data(), share.data());
          },
          array("b"), array("a"), array("slots"), nb::arg("total"), array("public_b"), array("public_a"), array("u"),
          array("e"), array("response"), array("share"))
      .def(
          "decrypt",
          [](const SlotRing& t, Words1 secret, Words1 response, Out<std::uint64_t, 1> share) {
            const std::size_t count = share.size() / t.n();
            require_size(share.size(), count * t.n());
            require_size(secret.size(), t.primes() * t.n());
            require_size(response.size(), t.kept() * count * t.n());
            nb::gil_scoped_release release;
            slot_decrypt(t, secret.data(), response.data(), count, share.data());
          },
          array("secret"), array("response"), array("share"));
}

}  // namespace aero
