#include "gf128.h"

#include <cstring>

#include "dispatch.h"
#include "parallel.h"

namespace aero {
namespace {

typedef unsigned __int128 Wide;

constexpr std::size_t kBlock = 16;

// Every fifth bit, from bit 0 on: of numbers with such bits alone, products have at most 13 ones to a column, which
// carry into the four bits above it and no further.
constexpr int kStep = 5;
constexpr std::uint64_t kEveryFifth = 0x1084210842108421;
constexpr Wide kEveryFifthWide = (static_cast<Wide>(0x2108421084210842) << 64) | kEveryFifth;

// The product of polynomials of degree 63. Without a table: the processor's integer multiplication on spread bits.
inline Wide multiply(std::uint64_t a, std::uint64_t b) {
  std::uint64_t x[kStep], y[kStep];
  for (int i = 0; i < kStep; ++i) {
    x[i] = a & (kEveryFifth << i);
    y[i] = b & (kEveryFifth << i);
  }
  Wide sum = 0;
  for (int residue = 0; residue < kStep; ++residue) {
    Wide part = 0;
    for (int i = 0; i < kStep; ++i) part ^= static_cast<Wide>(x[i]) * y[(residue + kStep - i) % kStep];
    sum |= part & (kEveryFifthWide << residue);
  }
  return sum;
}

void row_portable(const std::uint8_t* x, const std::uint8_t* y, std::size_t n, Gf128Row& row) {
  Wide low = 0, middle = 0, high = 0;
  std::uint64_t picked[2] = {0, 0};
  for (std::size_t j = 0; j < n; ++j) {
    std::uint64_t a[2], b[2];
    std::memcpy(a, x + kBlock * j, kBlock);
    std::memcpy(b, y + kBlock * j, kBlock);
    low ^= multiply(a[0], b[0]);
    high ^= multiply(a[1], b[1]);
    middle ^= multiply(a[0] ^ a[1], b[0] ^ b[1]);  // Karatsuba
    const std::uint64_t mask = std::uint64_t{0} - (b[0] & 1);
    picked[0] ^= a[0] & mask;
    picked[1] ^= a[1] & mask;
  }
  middle ^= low ^ high;
  row.product[0] = static_cast<std::uint64_t>(low);
  row.product[1] = static_cast<std::uint64_t>(low >> 64) ^ static_cast<std::uint64_t>(middle);
  row.product[2] = static_cast<std::uint64_t>(high) ^ static_cast<std::uint64_t>(middle >> 64);
  row.product[3] = static_cast<std::uint64_t>(high >> 64);
  row.picked[0] = picked[0];
  row.picked[1] = picked[1];
}

void make_row(const std::uint8_t* x, const std::uint8_t* y, std::size_t n, Gf128Row& row) {
#if AERO_X86
  if (level() >= Level::avx512) return gf128_row_avx512(x, y, n, row);
  if (level() >= Level::avx2) return gf128_row_avx2(x, y, n, row);
#elif AERO_ARM64
  if (level() >= Level::armv8) return gf128_row_armv8(x, y, n, row);
#endif
  row_portable(x, y, n, row);
}

// X^128 = X^7 + X^2 + X + 1, for the upper half and then for the few bits that this pushes out again.
void reduce(const std::uint64_t (&product)[4], std::uint64_t (&out)[2]) {
  const std::uint64_t h0 = product[2], h1 = product[3];
  const std::uint64_t over = h1 >> 63 ^ h1 >> 62 ^ h1 >> 57;
  out[0] = product[0] ^ h0 ^ h0 << 1 ^ h0 << 2 ^ h0 << 7 ^ over ^ over << 1 ^ over << 2 ^ over << 7;
  out[1] = product[1] ^ h1 ^ (h1 << 1 | h0 >> 63) ^ (h1 << 2 | h0 >> 62) ^ (h1 << 7 | h0 >> 57);
}

}  // namespace

void gf128_dot(const std::uint8_t* x, const std::uint8_t* y, std::size_t rows, std::size_t n, std::uint8_t* out,
               std::uint8_t* picked) {
  in_parallel(rows, 4 * n, [&](std::size_t begin, std::size_t end) {
    for (std::size_t r = begin; r < end; ++r) {
      Gf128Row row;
      make_row(x, y + kBlock * n * r, n, row);
      std::uint64_t sum[2];
      reduce(row.product, sum);
      std::memcpy(out + kBlock * r, sum, kBlock);
      std::memcpy(picked + kBlock * r, row.picked, kBlock);
    }
  });
}

}  // namespace aero
