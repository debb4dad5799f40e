#include "bind.h"

namespace aero {

void bind_lattice(nb::module_&) {}

}  // namespace aero
