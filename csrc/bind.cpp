#include "bind.h"

#include "dispatch.h"
#include "parallel.h"

namespace nb = nanobind;

namespace {

using aero::Level;

constexpr struct {
  const char* name;
  Level level;
} kLevels[] = {
    {"portable", Level::portable}, {"armv8", Level::armv8}, {"avx2", Level::avx2}, {"avx512", Level::avx512}};

}  // namespace

NB_MODULE(_native, m) {
  m.def("available_levels", [] {
    nb::list names;
    for (const auto& entry : kLevels)
      if (aero::available(entry.level)) names.append(entry.name);
    return names;
  });
  m.def("level", [] {
    for (const auto& entry : kLevels)
      if (entry.level == aero::level()) return entry.name;
    return "";
  });
  m.def(
      "set_level",
      [](const nb::str& name) {
        for (const auto& entry : kLevels)
          if (nb::str(entry.name).equal(name)) {
            aero::require(aero::available(entry.level), "this processor does not have that instruction set");
            return aero::set_level(entry.level);
          }
        throw nb::value_error("unknown kernel level: use portable, avx2, avx512 or armv8");
      },
      nb::arg("name"));
  m.def("threads", &aero::threads);
  m.def(
      "set_threads",
      [](int count) {
        aero::require(count >= 1, "there is at least one thread");
        aero::set_threads(count);
      },
      nb::arg("count"));
  aero::bind_symmetric(m);
  aero::bind_ring(m);
  aero::bind_lattice(m);
  aero::bind_leaf_ot(m);
  aero::bind_ot(m);
  aero::bind_field(m);
  aero::bind_slots(m);
}
