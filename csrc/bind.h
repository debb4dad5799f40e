// What the binding files share. Arrays come from NumPy, contiguous and of the exact type: nothing is converted
// silently, results go into arrays that the caller made, and the kernels run without the interpreter's lock.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstddef>
#include <cstdint>

namespace aero {

namespace nb = nanobind;

template <typename T, int Dims>
using In = nb::ndarray<const T, nb::ndim<Dims>, nb::c_contig, nb::device::cpu>;
template <typename T, int Dims>
using Out = nb::ndarray<T, nb::ndim<Dims>, nb::c_contig, nb::device::cpu>;

// An array argument: never converted, never None.
inline auto array(const char* name) { return nb::arg(name).noconvert(); }

// ValueError with that message unless the condition holds.
inline void require(bool condition, const char* message) {
  if (!condition) throw nb::value_error(message);
}

void bind_symmetric(nb::module_& m);  // PRG, sampling, hash, bit transposition
void bind_ring(nb::module_& m);       // bit packing, ring products
void bind_lattice(nb::module_& m);    // NTT, RLWE
void bind_leaf_ot(nb::module_& m);    // tables of small oblivious transfers
void bind_ot(nb::module_& m);         // oblivious transfer
void bind_field(nb::module_& m);      // powers in prime fields
void bind_slots(nb::module_& m);      // products in slots

}  // namespace aero
