#include "sample_steps.h"

namespace aero {

const SampleSteps kSampleStepsAvx2 = {accept_below, accept_ternary, binomial, count_reached, spread_bits};

}  // namespace aero
