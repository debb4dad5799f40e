#include "ntt_kernels.h"

namespace aero {

void ntt_forward_avx512(const NttView& t, std::uint64_t* a) { forward_transform<Avx512Lanes>(t, a); }

void ntt_inverse_avx512(const NttView& t, std::uint64_t* a) { inverse_transform<Avx512Lanes>(t, a); }

void ntt_front_avx512(const NttView& t, const std::uint64_t* in, std::uint32_t front, std::uint64_t* out) {
  forward_front<Avx512Lanes>(t, in, front, out);
}

}  // namespace aero
