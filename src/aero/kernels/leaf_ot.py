"""Tables of a 1-of-2^width oblivious transfer whose messages compare two digits.

Of `width` random OTs for each digit, 1 to 4, the sender has the blocks r[i, 0] and r[i, 1], the receiver bits c[i] and
the blocks r[i, c[i]]; c also stands for the number with these bits, lowest first. A table is one word: entry j, of
`size` bits, lies at bit `size` j, hidden by the same bits of the XOR over i of r[i, bit i of j]. No bit of a block
hides two entries, so every entry but the c-th is uniform to the receiver, without any assumption (Naor and Pinkas 1999,
section 3, with the blocks themselves in place of pseudorandom functions).

1. The receiver, who has digit b, sends the correction b ^ c.
2. The sender, who has digit a and a mask, sends the table whose entry j is the message for digit j ^ b ^ c:
   [digit < a] in bit 0 and, where size is 2, [digit = a] in bit 1, XORed with the mask.
3. The receiver opens entry c.

Constant time in digits, masks and blocks; not audited.
"""

import numpy as np

from aero.kernels.native import _native


def tables(blocks: np.ndarray, digits: np.ndarray, corrections: np.ndarray, masks: np.ndarray, size: int) -> np.ndarray:
    """The sender's tables: uint64 [n], in their low size 2^width bits.

    blocks: uint8 [n, width, 2, 16]. digits, corrections, masks: uint8 [n], below 2^width, 2^width and 2^size.
    """
    out = np.empty(len(digits), np.uint64)
    flat = np.ascontiguousarray(blocks).reshape(-1, 16)
    _native.leaf_tables(flat, digits, corrections, masks, _width(blocks), size, out)
    return out


def choices(bits: np.ndarray, blocks: np.ndarray, digits: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The receiver's corrections and pads, both uint8 [n].

    bits: uint8 [n, width], the c[i]. blocks: uint8 [n, width, 16]. digits: uint8 [n], below 2^width.
    """
    corrections, pads = np.empty(len(digits), np.uint8), np.empty(len(digits), np.uint8)
    flat = np.ascontiguousarray(blocks).reshape(-1, 16)
    _native.leaf_choices(np.ascontiguousarray(bits).reshape(-1), flat, digits, _width(blocks), size, corrections, pads)
    return corrections, pads


def open_entries(
    arrived: np.ndarray, digits: np.ndarray, corrections: np.ndarray, pads: np.ndarray, size: int
) -> np.ndarray:
    """The messages that the receiver chose: uint8 [n]. `arrived`: the sender's tables, uint64 [n]."""
    out = np.empty(len(digits), np.uint8)
    _native.leaf_open(arrived, digits, corrections, pads, size, out)
    return out


def _width(blocks: np.ndarray) -> int:
    width = blocks.shape[1]
    if not 1 <= width <= 4:
        raise ValueError(f"a digit has 1 to 4 bits, not {width}")
    return width
