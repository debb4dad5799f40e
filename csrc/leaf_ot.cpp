#include "leaf_ot.h"

#include <cstring>

#include "dispatch.h"

namespace aero {
namespace {

constexpr std::size_t kBlock = 16;
constexpr int kMaxWidth = 4;

std::uint32_t load(const std::uint8_t* block) {
  std::uint32_t word;
  std::memcpy(&word, block, sizeof word);
  return word;
}

// For tables of messages of `Size` bits: which bits belong to entries with bit i of their number set, and bit 0 of
// every message.
template <int Size>
struct Layout;
template <>
struct Layout<1> {
  static constexpr std::uint32_t set[kMaxWidth] = {0xaaaa, 0xcccc, 0xf0f0, 0xff00};
  static constexpr std::uint32_t first = 0xffff;
};
template <>
struct Layout<2> {
  static constexpr std::uint32_t set[kMaxWidth] = {0xcccccccc, 0xf0f0f0f0, 0xff00ff00, 0xffff0000};
  static constexpr std::uint32_t first = 0x55555555;
};

// All ones where the bit is set.
constexpr std::uint32_t spread(std::uint32_t bit) { return 0u - (bit & 1u); }

template <int Width, int Size>
void tables(const std::uint8_t* blocks, const std::uint8_t* digits, const std::uint8_t* corrections,
            const std::uint8_t* masks, std::size_t n, std::uint64_t* out) {
  using L = Layout<Size>;
  constexpr std::uint32_t whole = static_cast<std::uint32_t>((std::uint64_t{1} << (Size << Width)) - 1);
  for (std::size_t k = 0; k < n; ++k) {
    const std::uint64_t a = digits[k];
    std::uint32_t table = static_cast<std::uint32_t>(((std::uint64_t{1} << (Size * a)) - 1) & L::first);
    if (Size == 2) table |= static_cast<std::uint32_t>(std::uint64_t{2} << (2 * a));
    const std::uint32_t d = corrections[k];
    for (int i = 0; i < Width; ++i) {
      const int by = Size << i;
      const std::uint32_t exchanged = ((table & L::set[i]) >> by) | ((table << by) & L::set[i]);
      table ^= (table ^ exchanged) & spread(d >> i);
    }
    table ^= spread(masks[k]) & L::first;
    if (Size == 2) table ^= spread(masks[k] >> 1u) & ~L::first;
    for (int i = 0; i < Width; ++i) {
      const std::uint8_t* pair = blocks + 2 * kBlock * (Width * k + static_cast<std::size_t>(i));
      const std::uint32_t zero = load(pair), one = load(pair + kBlock);
      table ^= zero ^ ((zero ^ one) & L::set[i]);
    }
    out[k] = table & whole;
  }
}

template <int Width>
void choices_of(const std::uint8_t* choices, const std::uint8_t* blocks, const std::uint8_t* digits, std::size_t n,
                int size, std::uint8_t* corrections, std::uint8_t* pads) {
  const std::uint32_t entry = (1u << size) - 1;
  for (std::size_t k = 0; k < n; ++k) {
    std::uint32_t c = 0, pad = 0;
    for (int i = 0; i < Width; ++i) {
      const std::size_t at = Width * k + static_cast<std::size_t>(i);
      c |= static_cast<std::uint32_t>(choices[at] & 1u) << i;
      pad ^= load(blocks + kBlock * at);
    }
    corrections[k] = static_cast<std::uint8_t>(digits[k] ^ c);
    pads[k] = static_cast<std::uint8_t>((pad >> (c * static_cast<std::uint32_t>(size))) & entry);
  }
}

}  // namespace

void leaf_tables(const std::uint8_t* blocks, const std::uint8_t* digits, const std::uint8_t* corrections,
                 const std::uint8_t* masks, std::size_t n, int width, int size, std::uint64_t* out) {
  using Kernel = void (*)(const std::uint8_t*, const std::uint8_t*, const std::uint8_t*, const std::uint8_t*,
                          std::size_t, std::uint64_t*);
  constexpr Kernel kernels[2][kMaxWidth] = {{tables<1, 1>, tables<2, 1>, tables<3, 1>, tables<4, 1>},
                                            {tables<1, 2>, tables<2, 2>, tables<3, 2>, tables<4, 2>}};
  std::size_t done = 0;
#if AERO_X86
  if (width == kMaxWidth && level() >= Level::avx512)
    done = leaf_tables_avx512(blocks, digits, corrections, masks, n, size, out);
#endif
  blocks += 2 * kBlock * static_cast<std::size_t>(width) * done;
  kernels[size - 1][width - 1](blocks, digits + done, corrections + done, masks + done, n - done, out + done);
}

void leaf_choices(const std::uint8_t* choices, const std::uint8_t* blocks, const std::uint8_t* digits, std::size_t n,
                  int width, int size, std::uint8_t* corrections, std::uint8_t* pads) {
  using Kernel = void (*)(const std::uint8_t*, const std::uint8_t*, const std::uint8_t*, std::size_t, int,
                          std::uint8_t*, std::uint8_t*);
  constexpr Kernel kernels[kMaxWidth] = {choices_of<1>, choices_of<2>, choices_of<3>, choices_of<4>};
  std::size_t done = 0;
#if AERO_X86
  if (width == kMaxWidth && level() >= Level::avx512)
    done = leaf_choices_avx512(choices, blocks, digits, n, size, corrections, pads);
#endif
  const std::size_t bits = static_cast<std::size_t>(width) * done;
  kernels[width - 1](choices + bits, blocks + kBlock * bits, digits + done, n - done, size, corrections + done,
                     pads + done);
}

void leaf_open(const std::uint64_t* tables, const std::uint8_t* digits, const std::uint8_t* corrections,
               const std::uint8_t* pads, std::size_t n, int size, std::uint8_t* out) {
  const std::uint64_t entry = (std::uint64_t{1} << size) - 1;
  for (std::size_t k = 0; k < n; ++k) {
    const std::uint64_t at = static_cast<std::uint64_t>(size) * (digits[k] ^ corrections[k]);
    out[k] = static_cast<std::uint8_t>(((tables[k] >> at) ^ pads[k]) & entry);
  }
}

}  // namespace aero
