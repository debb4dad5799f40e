// The loops under rlwe.cpp, one table of them per instruction set. rlwe_kernels.h defines and documents them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "modarith.h"
#include "ntt.h"

namespace aero {

constexpr std::uint32_t kColumnsAtOnce = 16;  // whose coefficients stay in the cache while their transforms are walked
constexpr std::size_t kCoefficientsAtOnce = std::size_t{1} << 16;  // of these, before their products are taken

// Products of row_tiles x inner ciphertexts with inner x columns plaintexts, modulo one prime; of more than one job for the
// same results, each has a part of the inner tiles. x and prepared are operands: residues in the form that this instruction
// set multiplies fastest (`operands`), which no other one reads.
struct ProductsJob {
  const NttView* ntt;
  std::uint32_t row_tiles, inner, columns, front;
  std::uint32_t x_inner;          // of x, of which this job reads the first `inner`
  bool add;                       // to what stands in the results
  const std::uint64_t* x;         // [n / 8][row_tiles][x_inner][b, a][8]
  const std::uint64_t* weights;   // residues [columns][inner][front], or null
  const std::uint64_t* prepared;  // transforms [columns / 4][n / 8][inner][4][8], or null
  Factor scale_b[3], scale_a[3];  // c, c 2^52, c 2^104 for the constant c by which the results are multiplied
  std::uint64_t *out_b, *out_a;   // result (row, column) begins at row row_stride + column column_stride
  std::size_t row_stride, column_stride;
  std::uint64_t *block, *transforms;  // room for front and 4 inner front words
};

struct RlweSteps {
  void (*products)(const ProductsJob&);
  void (*operands)(std::uint64_t q, std::uint32_t n, const std::uint64_t* in, std::uint64_t* out, std::size_t stride);
  void (*residues)(std::uint64_t q, std::size_t count, const std::int64_t* in, std::uint64_t* out);
  void (*small)(std::uint64_t q, std::uint32_t n, const std::int8_t* in, std::uint64_t* out);
  void (*add_small)(std::uint64_t q, std::uint32_t n, const std::int8_t* in, std::uint64_t* sum);
  std::uint64_t (*key_factor)(std::uint64_t q);
  void (*split)(std::uint64_t q, std::uint32_t n, std::uint32_t run, std::uint64_t* x, const std::uint64_t* y,
                const std::uint64_t* w, const std::uint64_t* w_q, std::uint64_t* difference);
  void (*twice)(std::uint64_t q, std::uint32_t n, std::uint64_t* x);
  void (*permute)(std::uint32_t n, const std::uint64_t* in, const std::uint32_t* permutation, std::uint64_t* out);
  void (*permute_add)(std::uint64_t q, std::uint32_t n, const std::uint64_t* in, const std::uint32_t* permutation,
                      std::uint64_t* sum);
  void (*lift)(std::uint64_t p, std::uint64_t q, std::uint32_t n, const std::uint64_t* in, std::uint64_t* out);
  void (*switch_key)(std::uint64_t q, std::uint32_t n, std::size_t count, const std::uint64_t* const* digits,
                     const std::uint64_t* key, std::uint64_t* b, std::uint64_t* a);
  void (*add_difference)(std::uint64_t q, std::uint32_t n, const std::uint64_t* x, const std::uint64_t* y, Factor c,
                         std::uint64_t* sum);
  void (*add_product)(std::uint64_t q, std::uint32_t n, const std::uint64_t* x, const std::uint64_t* y,
                      const Factor (&c)[3], std::uint64_t* sum);
};

extern const RlweSteps kRlweStepsAvx2;
extern const RlweSteps kRlweStepsAvx512;

}  // namespace aero
