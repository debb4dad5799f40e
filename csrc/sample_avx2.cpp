#include "sample_steps.h"

namespace aero {

const SampleSteps kSampleStepsAvx2 = {accept_below, accept_ternary, binomial, spread_bits};

}  // namespace aero
