#include "modarith_lanes_avx2.h"
#include "rlwe_kernels.h"

namespace aero {

extern const RlweSteps kRlweStepsAvx2;
const RlweSteps kRlweStepsAvx2 = rlwe_steps<Avx2Lanes>();

}  // namespace aero
