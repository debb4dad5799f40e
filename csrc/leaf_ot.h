// Tables of a 1-of-2^width oblivious transfer whose messages tell how the sender's digit compares with the receiver's.
//
// It is made of `width` random OTs of 128-bit blocks, width 1 to 4: the sender has blocks r[i][0] and r[i][1], the
// receiver the bits c[i] and the blocks r[i][c[i]]; c is the number of these bits, lowest first. Entry j of a table of
// messages of `size` bits lies at bit `size` j of a word and is hidden by the XOR over i of the same bits of
// r[i][bit i of j]. No bit of a block is used for two entries, so all entries but the c-th stay uniform for the
// receiver. Naor and Pinkas 1999, section 3, with the blocks themselves for pseudorandom functions.
//
// The receiver of digit b sends b ^ c, and opens entry c of a table in which entry j is the message for b = j ^ b ^ c.
// The message for b, of a sender with digit a, is [b < a] in bit 0 and, where size is 2, [b = a] in bit 1, each XORed
// with the sender's mask of that bit.
//
// No address and no branch depends on a digit, a mask or a block.
#pragma once

#include <cstddef>
#include <cstdint>

namespace aero {

// Blocks are n * width * 2 of 16 bytes: r[0][0], r[0][1], r[1][0], ... The table of digit k goes to out[k], in its low
// size * 2^width bits. digits, corrections (b ^ c) below 2^width; masks below 2^size.
void leaf_tables(const std::uint8_t* blocks, const std::uint8_t* digits, const std::uint8_t* corrections,
                 const std::uint8_t* masks, std::size_t n, int width, int size, std::uint64_t* out);

// The receiver's part: choices are n * width bits, one to a byte, blocks n * width of 16 bytes. Gives corrections, and
// pads[k], which hides entry c.
void leaf_choices(const std::uint8_t* choices, const std::uint8_t* blocks, const std::uint8_t* digits, std::size_t n,
                  int width, int size, std::uint8_t* corrections, std::uint8_t* pads);

// out[k]: entry digits[k] ^ corrections[k] of tables[k], opened with pads[k].
void leaf_open(const std::uint64_t* tables, const std::uint8_t* digits, const std::uint8_t* corrections,
               const std::uint8_t* pads, std::size_t n, int size, std::uint8_t* out);

// Digits of four bits from the front; how many were done (the caller does the others).
std::size_t leaf_tables_avx512(const std::uint8_t* blocks, const std::uint8_t* digits, const std::uint8_t* corrections,
                               const std::uint8_t* masks, std::size_t n, int size, std::uint64_t* out);
std::size_t leaf_choices_avx512(const std::uint8_t* choices, const std::uint8_t* blocks, const std::uint8_t* digits,
                                std::size_t n, int size, std::uint8_t* corrections, std::uint8_t* pads);

}  // namespace aero
