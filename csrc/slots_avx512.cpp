#include "slots_kernels.h"

namespace aero {

extern const SlotSteps kSlotStepsAvx512;
const SlotSteps kSlotStepsAvx512 = slot_steps<Avx512Lanes>();

}  // namespace aero
