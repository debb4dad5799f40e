#include "rlwe_kernels.h"

namespace aero {

extern const RlweSteps kRlweStepsAvx512;
const RlweSteps kRlweStepsAvx512 = rlwe_steps<Avx512Lanes>();

}  // namespace aero
