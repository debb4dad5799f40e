#include "bind.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <vector>

#include "ntt.h"
#include "rlwe.h"

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

using Words1 = In<std::uint64_t, 1>;
using Small1 = In<std::int8_t, 1>;

// Every array is flat here: rlwe.py knows the shapes, and these checks only keep the kernels inside their arrays.
void require_size(std::size_t actual, std::size_t expected) {
  if (actual != expected) throw nb::value_error("an array has the wrong size");
}
void require_bits(int bits, int most) { require(bits >= 1 && bits <= most, "a number of bits is out of range"); }

bool power_of_two(std::size_t k) { return k && !(k & (k - 1)); }

// A matrix by its columns: parts [columns of the part][numbers of a column], or [..][..][3 bytes of a number].
using Part = nb::ndarray<nb::ro, nb::device::cpu>;
using Matrix = std::vector<Part>;

// Plaintexts of a product, checked against its sizes.
class Given {
 public:
  Given(const Lattice& t, const Products& p, std::uint32_t d2, const std::optional<In<std::int64_t, 1>>& polynomials,
        const std::optional<Matrix>& matrix, const std::optional<Words1>& prepared = {}) {
    require(power_of_two(p.front) && p.front >= kRun && p.front <= t.n(), "bad number of coefficients");
    require(polynomials.has_value() + matrix.has_value() + prepared.has_value() == 1, "give the weights in one form");
    if (polynomials) {
      require_size(polynomials->size(), p.batch * p.columns * p.inner * p.front);
      plaintexts_.polynomials = polynomials->data();
    } else if (prepared) {
      require_size(prepared->size(), p.batch * t.primes() * ((p.columns + 3) / 4 * 4) * p.inner * t.n());
      plaintexts_.prepared = prepared->data();
    } else {
      read(*matrix, p, d2);
      plaintexts_.matrix = &columns_;
    }
  }
  Given(const Given&) = delete;
  Given& operator=(const Given&) = delete;
  const Plaintexts& plaintexts() const { return plaintexts_; }

 private:
  void read(const Matrix& matrix, const Products& p, std::uint32_t d2) {
    require(!matrix.empty() && p.batch == 1, "a matrix is that of one product");
    require(matrix[0].ndim() >= 2, "a matrix has rows and columns");
    columns_ = {{}, matrix[0].shape(1), p.spacing, d2};
    for (const Part& part : matrix) {
      using Code = nb::dlpack::dtype_code;
      const nb::dlpack::dtype type = part.dtype();
      const bool whole = part.ndim() == 2 && type.code == static_cast<std::uint8_t>(Code::Int) && type.bits >= 16;
      const bool three = part.ndim() == 3 && type.code == static_cast<std::uint8_t>(Code::UInt) && type.bits == 8 &&
                         part.shape(2) == 3 && part.stride(2) == 1;
      require((whole || three) && type.lanes == 1, "a matrix is of whole numbers of 2, 3, 4 or 8 bytes");
      require(part.shape(1) == columns_.inner && part.stride(1) == (three ? 3 : 1) && part.stride(0) >= 0,
              "the parts of a matrix differ, or their columns are not in a row");
      const int bytes = three ? 3 : type.bits / 8;
      for (std::size_t column = 0; column < part.shape(0); ++column)
        columns_.columns.push_back(
            {static_cast<const char*>(part.data()) + column * part.stride(0) * (type.bits / 8), bytes});
    }
    require(power_of_two(d2) && std::size_t{p.spacing} * d2 <= p.front, "bad tiles");
    require_size((columns_.columns.size() + d2 - 1) / d2, p.columns);
    require_size((columns_.inner + p.spacing - 1) / p.spacing, p.inner);
  }

  Plaintexts plaintexts_;
  Columns columns_;
};

void bind_rlwe(nb::module_& m) {
  m.attr("MAX_INNER") = kMaxInner;

  nb::class_<Lattice>(m, "Lattice")
      .def(nb::init<std::uint32_t, const std::vector<std::uint64_t>&, std::uint64_t>(), nb::arg("n"),
           nb::arg("primes"), nb::arg("special"))
      .def_prop_ro("node_size", &Lattice::node_size)
      .def(
          "transform_small",
          [](const Lattice& t, Small1 small, Out<std::uint64_t, 1> out) {
            const std::size_t count = small.size() / t.n();
            require_size(small.size(), count * t.n());
            require_size(out.size(), count * t.residues() * t.n());
            nb::gil_scoped_release release;
            t.transform_small(small.data(), count, out.data());
          },
          array("small"), array("out"))
      .def(
          "encrypt",
          [](const Lattice& t, std::size_t residues, Words1 secret, Words1 a, Small1 noise,
             std::optional<Words1> message, int ring_bits, Out<std::uint64_t, 1> b) {
            const std::size_t count = noise.size() / t.n();
            require(residues >= t.primes() && residues <= t.residues(), "a number of residues is out of range");
            require(!message || residues == t.primes(), "messages are encrypted modulo the ciphertext primes");
            require_bits(ring_bits, 64);
            require_size(secret.size(), t.residues() * t.n());
            require_size(noise.size(), count * t.n());
            if (message) require_size(message->size(), count * t.n());
            require_size(a.size(), count * residues * t.n());
            require_size(b.size(), count * residues * t.n());
            nb::gil_scoped_release release;
            encrypt(t, residues, secret.data(), a.data(), noise.data(), message ? message->data() : nullptr, ring_bits,
                    count, b.data());
          },
          nb::arg("residues"), array("secret"), array("a"), array("noise"), array("message").none(),
          nb::arg("ring_bits"), array("b"))
      .def(
          "packing_key",
          [](const Lattice& t, Words1 secret, int log_galois, Words1 a, Small1 noise, Out<std::uint64_t, 1> b) {
            require(log_galois >= 1 && (1u << log_galois) <= t.n(), "no such packing step");
            require_size(secret.size(), t.residues() * t.n());
            require_size(a.size(), t.primes() * t.residues() * t.n());
            require_size(noise.size(), t.primes() * t.n());
            require_size(b.size(), a.size());
            nb::gil_scoped_release release;
            packing_key(t, secret.data(), log_galois, a.data(), noise.data(), b.data());
          },
          array("secret"), nb::arg("log_galois"), array("a"), array("noise"), array("b"))
      .def(
          "arrange",
          [](const Lattice& t, std::size_t row_tiles, std::size_t inner, Words1 b, Words1 a,
             std::optional<Words1> addend, int ring_bits, Out<std::uint64_t, 1> out) {
            const std::size_t count = row_tiles * inner;
            require_bits(ring_bits, 64);
            require_size(b.size(), count * t.primes() * t.n());
            require_size(a.size(), b.size());
            if (addend) require_size(addend->size(), count * t.n());
            require_size(out.size(), 2 * b.size());
            nb::gil_scoped_release release;
            arrange(t, row_tiles, inner, b.data(), a.data(), addend ? addend->data() : nullptr, ring_bits, out.data());
          },
          nb::arg("row_tiles"), nb::arg("inner"), array("b"), array("a"), array("addend").none(), nb::arg("ring_bits"),
          array("out"))
      .def(
          "prepare",
          [](const Lattice& t, std::size_t columns, std::size_t inner, std::uint32_t front, std::uint32_t d1,
             std::uint32_t d2, std::optional<In<std::int64_t, 1>> polynomials, std::optional<Matrix> matrix, Out<std::uint64_t, 1> out) {
            require(columns && inner && power_of_two(d1), "an empty matrix, or a bad tile");
            const Given given(t, {1, 1, inner, columns, 1, front, d1}, d2, polynomials, matrix);
            require_size(out.size(), t.primes() * ((columns + 3) / 4 * 4) * inner * t.n());
            nb::gil_scoped_release release;
            prepare(t, columns, inner, front, given.plaintexts(), out.data());
          },
          nb::arg("columns"), nb::arg("inner"), nb::arg("front"), nb::arg("d1"), nb::arg("d2"), array("polynomials").none(),
          array("matrix").none(), array("out"))
      .def(
          "products",
          [](const Lattice& t, const PackingKeys& keys, std::size_t batch, std::size_t row_tiles, std::size_t inner,
             std::size_t columns, std::size_t merge, std::uint32_t front, std::uint32_t d1, std::uint32_t d2, Words1 x,
             std::optional<In<std::int64_t, 1>> polynomials, std::optional<Matrix> matrix,
             std::optional<Words1> prepared, Out<std::uint64_t, 1> out) {
            require(batch && row_tiles && inner && columns, "an empty product");
            require(power_of_two(d1) && power_of_two(merge) && d1 <= t.n() && merge <= d1, "bad packing");
            const Products p{batch, row_tiles, inner, columns, merge, front, d1};
            const Given given(t, p, d2, polynomials, matrix, prepared);
            require_size(x.size(), 2 * batch * row_tiles * inner * t.primes() * t.n());
            require_size(out.size(), p.packed() * t.node_size());
            nb::gil_scoped_release release;
            products(t, keys, p, x.data(), given.plaintexts(), out.data());
          },
          nb::arg("keys"), nb::arg("batch"), nb::arg("row_tiles"), nb::arg("inner"), nb::arg("columns"),
          nb::arg("merge"), nb::arg("front"), nb::arg("d1"), nb::arg("d2"), array("x"), array("polynomials").none(),
          array("matrix").none(), array("prepared").none(), array("out"))
      .def(
          "respond",
          [](const Lattice& t, Out<std::uint64_t, 1> in, Words1 public_b, Words1 public_a, Small1 u, Small1 e_b,
             Small1 e_a, int bits, Out<std::uint64_t, 1> b, Out<std::uint64_t, 1> a) {
            const std::size_t count = u.size() / t.n();
            require_bits(bits, 63);
            require_size(in.size(), count * t.node_size());
            require_size(public_b.size(), t.primes() * t.n());
            require_size(public_a.size(), t.primes() * t.n());
            for (std::size_t size : {u.size(), e_b.size(), e_a.size(), b.size(), a.size()})
              require_size(size, count * t.n());
            nb::gil_scoped_release release;
            respond(t, count, in.data(), public_b.data(), public_a.data(), u.data(), e_b.data(), e_a.data(), bits,
                    b.data(), a.data());
          },
          array("packed"), array("public_b"), array("public_a"), array("u"), array("e_b"), array("e_a"),
          nb::arg("bits"), array("b"), array("a"))
      .def(
          "times_secret",
          [](const Lattice& t, Words1 secret, Words1 a, int bits, Out<std::uint64_t, 1> out) {
            const std::size_t count = a.size() / t.n();
            require_bits(bits, 63);
            require_size(secret.size(), t.residues() * t.n());
            require_size(a.size(), count * t.n());
            require_size(out.size(), a.size());
            nb::gil_scoped_release release;
            times_secret(t, count, secret.data(), a.data(), bits, out.data());
          },
          array("secret"), array("a"), nb::arg("bits"), array("out"));

  nb::class_<PackingKeys>(m, "PackingKeys")
      .def(nb::init<const Lattice&>(), nb::arg("lattice"), nb::keep_alive<1, 2>())
      .def(
          "add",
          [](PackingKeys& keys, int log_galois, Words1 a, Words1 b) {
            const Lattice& t = keys.lattice();
            require_size(a.size(), t.primes() * t.residues() * t.n());
            require_size(b.size(), a.size());
            keys.add(log_galois, a.data(), b.data());
          },
          nb::arg("log_galois"), array("a"), array("b"));
}

}  // namespace

void bind_lattice(nb::module_& m) {
  // The parameter table keeps its native tables until the process ends, which nanobind would report as leaks.
  nb::set_leak_warnings(false);
  bind_ntt(m);
  bind_rlwe(m);
}

}  // namespace aero
