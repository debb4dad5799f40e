#include "bind.h"

namespace aero {

void bind_ring(nb::module_&) {}

}  // namespace aero
