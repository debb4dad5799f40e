#include "bitpack.h"

#include <cstring>

#include "dispatch.h"

namespace aero {
namespace {

constexpr std::size_t kGroup = 8;  // values; a group takes `width` whole bytes

std::uint64_t mask_of(int width) { return ~std::uint64_t{0} >> (64 - width); }

void pack_portable(const std::uint64_t* values, std::size_t n, int width, std::uint8_t* out, std::uint64_t& used) {
  const std::uint64_t mask = mask_of(width);
  std::uint64_t word = 0;  // `filled` bits wait here, fewer than 64
  int filled = 0;
  for (std::size_t i = 0; i < n; ++i) {
    used |= values[i];
    const std::uint64_t value = values[i] & mask;
    word |= value << filled;
    filled += width;
    if (filled >= 64) {
      std::memcpy(out, &word, 8);
      out += 8;
      filled -= 64;
      word = filled > 0 ? value >> (width - filled) : 0;
    }
  }
  std::memcpy(out, &word, static_cast<std::size_t>(filled + 7) / 8);
}

void unpack_portable(const std::uint8_t* bytes, std::size_t n, int width, std::uint64_t* out) {
  const std::uint64_t mask = mask_of(width);
  const std::uint8_t* const end = bytes + packed_bytes(n, width);
  std::uint64_t word = 0;  // the next `left` bits
  int left = 0;
  for (std::size_t i = 0; i < n; ++i) {
    std::uint64_t value = word;
    if (left < width) {
      const std::size_t now = end - bytes < 8 ? static_cast<std::size_t>(end - bytes) : 8;
      std::uint64_t next = 0;
      std::memcpy(&next, bytes, now);
      bytes += now;
      value |= next << left;
      const int taken = width - left;  // 1 to 64 bits of `next`
      word = taken < 64 ? next >> taken : 0;
      left = 64 - taken;
    } else {
      word = width < 64 ? word >> width : 0;
      left -= width;
    }
    out[i] = value & mask;
  }
}

}  // namespace

bool bit_pack(const std::uint64_t* values, std::size_t n, int width, std::uint8_t* out) {
  std::uint64_t used = 0;  // the bits that occur in any value
  std::size_t groups = 0;
#if AERO_X86
  if (level() >= Level::avx512) groups = bit_pack_groups_avx512(values, n / kGroup, width, out, used);
#endif
  pack_portable(values + kGroup * groups, n - kGroup * groups, width, out + groups * static_cast<std::size_t>(width),
                used);
  return (used & ~mask_of(width)) == 0;
}

bool bit_unpack(const std::uint8_t* bytes, std::size_t n, int width, std::uint64_t* out) {
  const int last_bits = static_cast<int>(n * static_cast<std::size_t>(width) % 8);
  if (last_bits && bytes[packed_bytes(n, width) - 1] >> last_bits) return false;
  std::size_t groups = 0;
#if AERO_X86
  if (level() >= Level::avx512) groups = bit_unpack_groups_avx512(bytes, n / kGroup, width, out);
#endif
  unpack_portable(bytes + groups * static_cast<std::size_t>(width), n - kGroup * groups, width, out + kGroup * groups);
  return true;
}

}  // namespace aero
