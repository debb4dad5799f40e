// What the bitsliced ciphers share: vectors of bits, the transposition of 8 x 8 bits, and the S-box as a circuit, so that
// no address and no branch depends on data.
#pragma once

#include <cstdint>

namespace aero {

// 128 independent bits. A vector type of GCC and Clang on every architecture.
typedef std::uint64_t Lanes __attribute__((vector_size(16)));

static inline Lanes both(std::uint64_t word) { return Lanes{word, word}; }

// Exchanges the bits of `a` under mask << shift with the bits of `b` under mask.
static inline void swap_bits(Lanes& a, Lanes& b, int shift, std::uint64_t mask) {
  const Lanes t = ((a >> shift) ^ b) & both(mask);
  b ^= t;
  a ^= t << shift;
}

// Between eight vectors of bytes and eight bit planes; its own inverse. Bit j of byte b of vector k goes to bit 8 b + k of
// plane j.
static inline void transpose_bits(Lanes (&p)[8]) {
  for (int k = 0; k < 8; k += 2) swap_bits(p[k], p[k + 1], 1, 0x5555555555555555);
  for (int k = 0; k < 8; k += 4)
    for (int i = 0; i < 2; ++i) swap_bits(p[k + i], p[k + i + 2], 2, 0x3333333333333333);
  for (int i = 0; i < 4; ++i) swap_bits(p[i], p[i + 4], 4, 0x0f0f0f0f0f0f0f0f);
}

constexpr std::uint8_t kSboxConstant = 0x63;

// The S-box but for the XOR with kSboxConstant, from eight planes, plane j holding bit j of every byte, to eight others.
// The circuit of 115 gates of Boyar and Peralta, "A New Combinational Logic Minimization Technique with Applications to
// Cryptology" (2010), in their names, where x0 and s0 are the highest bits.
static inline void substitute(const Lanes* from, Lanes* to) {
  const Lanes x0 = from[7], x1 = from[6], x2 = from[5], x3 = from[4], x4 = from[3], x5 = from[2], x6 = from[1];
  const Lanes x7 = from[0];
  const Lanes y14 = x3 ^ x5, y13 = x0 ^ x6, y9 = x0 ^ x3, y8 = x0 ^ x5, t0 = x1 ^ x2, y1 = t0 ^ x7, y4 = y1 ^ x3;
  const Lanes y12 = y13 ^ y14, y2 = y1 ^ x0, y5 = y1 ^ x6, y3 = y5 ^ y8, t1 = x4 ^ y12, y15 = t1 ^ x5, y20 = t1 ^ x1;
  const Lanes y6 = y15 ^ x7, y10 = y15 ^ t0, y11 = y20 ^ y9, y7 = x7 ^ y11, y17 = y10 ^ y11, y19 = y10 ^ y8;
  const Lanes y16 = t0 ^ y11, y21 = y13 ^ y16, y18 = x0 ^ y16;
  const Lanes t2 = y12 & y15, t4 = (y3 & y6) ^ t2, t6 = (y4 & x7) ^ t2, t7 = y13 & y16, t9 = (y5 & y1) ^ t7;
  const Lanes t11 = (y2 & y7) ^ t7, t12 = y9 & y11, t14 = (y14 & y17) ^ t12, t16 = (y8 & y10) ^ t12;
  const Lanes t21 = t4 ^ t14 ^ y20, t22 = t6 ^ t16 ^ y19, t23 = t9 ^ t14 ^ y21, t24 = t11 ^ t16 ^ y18;
  const Lanes t25 = t21 ^ t22, t26 = t21 & t23, t27 = t24 ^ t26, t29 = (t25 & t27) ^ t22, t30 = t23 ^ t24;
  const Lanes t31 = t22 ^ t26, t33 = (t31 & t30) ^ t24, t34 = t23 ^ t33, t35 = t27 ^ t33, t36 = t24 & t35;
  const Lanes t37 = t36 ^ t34, t38 = t27 ^ t36, t40 = t25 ^ (t29 & t38), t41 = t40 ^ t37, t42 = t29 ^ t33;
  const Lanes t43 = t29 ^ t40, t44 = t33 ^ t37, t45 = t42 ^ t41;
  const Lanes z0 = t44 & y15, z1 = t37 & y6, z2 = t33 & x7, z3 = t43 & y16, z4 = t40 & y1, z5 = t29 & y7;
  const Lanes z6 = t42 & y11, z7 = t45 & y17, z8 = t41 & y10, z9 = t44 & y12, z10 = t37 & y3, z11 = t33 & y4;
  const Lanes z12 = t43 & y13, z13 = t40 & y5, z14 = t29 & y2, z15 = t42 & y9, z16 = t45 & y14, z17 = t41 & y8;
  const Lanes t46 = z15 ^ z16, t48 = z5 ^ z13, t53 = z0 ^ z3, t54 = z6 ^ z7, t57 = z2 ^ z12 ^ t53, t58 = z4 ^ t46;
  const Lanes t59 = z3 ^ t54, t60 = t46 ^ t57, t61 = z14 ^ t57, t62 = z7 ^ z8 ^ t58, t63 = z9 ^ z10 ^ t58;
  const Lanes t64 = z4 ^ t59, t65 = t61 ^ t62, t66 = z1 ^ t63, s3 = t53 ^ t66;
  to[7] = t59 ^ t63;
  to[6] = t64 ^ s3;
  to[5] = z16 ^ z17 ^ t64 ^ t65;
  to[4] = s3;
  to[3] = z2 ^ z5 ^ t66;
  to[2] = z10 ^ z11 ^ t65;
  to[1] = z12 ^ t48 ^ t62;
  to[0] = t48 ^ t60;
}

}  // namespace aero
