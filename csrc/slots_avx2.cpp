#include "modarith_lanes_avx2.h"
#include "slots_kernels.h"

namespace aero {

extern const SlotSteps kSlotStepsAvx2;
const SlotSteps kSlotStepsAvx2 = slot_steps<Avx2Lanes>();

}  // namespace aero
