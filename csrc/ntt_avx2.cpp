#include "modarith_lanes_avx2.h"
#include "ntt_kernels.h"

namespace aero {

void ntt_forward_avx2(const NttView& t, std::uint64_t* a) { forward_transform<Avx2Lanes>(t, a); }

void ntt_inverse_avx2(const NttView& t, std::uint64_t* a) { inverse_transform<Avx2Lanes>(t, a); }

void ntt_front_avx2(const NttView& t, const std::uint64_t* in, std::uint32_t front, std::uint64_t* out) {
  forward_front<Avx2Lanes>(t, in, front, out);
}

}  // namespace aero
