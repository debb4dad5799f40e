#include "bind.h"

namespace aero {

void bind_symmetric(nb::module_&) {}

}  // namespace aero
