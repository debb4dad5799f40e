// AES without AES instructions, 128 blocks at once: see aes_wide.cpp. The functions are those of aes.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "aes.h"

namespace aero {

constexpr std::size_t kWideBlocks = 128;  // any number may be asked for, but takes the time of a multiple

void aes_counter_wide(const RoundKeys& keys, std::uint64_t first_block, std::size_t blocks, std::uint8_t* out);
void aes_encrypt_wide(const RoundKeys& keys, const std::uint8_t* x, std::size_t n, std::uint8_t* out);
void aes_hash_wide(const RoundKeys& keys, const std::uint8_t* x, const std::uint64_t* tweaks, std::size_t n,
                   std::uint8_t* out);

}  // namespace aero
