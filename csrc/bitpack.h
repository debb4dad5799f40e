// Unsigned integers of `width` bits, 1 to 64, packed without gaps: value i at bits i width to (i + 1) width - 1 of the
// output, bit b of which is bit b mod 8 of byte b div 8. The last byte is filled up with zeros.
#pragma once

#include <cstddef>
#include <cstdint>

namespace aero {

// Bytes that n values take. The caller keeps n * width below 2^64.
constexpr std::size_t packed_bytes(std::size_t n, int width) { return (n * static_cast<std::size_t>(width) + 7) / 8; }

// Packs n values into packed_bytes(n, width) bytes. False, with nothing promised about `out`, if a value is 2^width or
// more.
bool bit_pack(const std::uint64_t* values, std::size_t n, int width, std::uint8_t* out);

// Unpacks n values from packed_bytes(n, width) bytes. False if a bit after the last value is not zero.
bool bit_unpack(const std::uint8_t* bytes, std::size_t n, int width, std::uint64_t* out);

// Whole groups of eight values, which take `width` bytes: how many groups were done from the front (the caller does
// the others). Packing takes the low `width` bits of each value and ORs whole values into `used`.
std::size_t bit_pack_groups_avx512(const std::uint64_t* values, std::size_t groups, int width, std::uint8_t* out,
                                   std::uint64_t& used);
std::size_t bit_unpack_groups_avx512(const std::uint8_t* bytes, std::size_t groups, int width, std::uint64_t* out);

}  // namespace aero
