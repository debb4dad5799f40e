#include "ntt_kernels.h"

namespace aero {

void ntt_forward_avx512(const NttView& t, std::uint64_t* a) { Transform<Avx512Lanes>(t).forward_block(a, t.n, 1); }

void ntt_inverse_avx512(const NttView& t, std::uint64_t* a) { Transform<Avx512Lanes>(t).inverse_block(a, t.n, 1); }

void ntt_front_avx512(const NttView& t, const std::uint64_t* in, std::uint32_t front, std::uint64_t* out) {
  Transform<Avx512Lanes>(t).forward_front(in, front, out);
}

}  // namespace aero
