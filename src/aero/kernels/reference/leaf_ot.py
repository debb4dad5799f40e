"""The tables of small oblivious transfers, by definition (see `aero.kernels.leaf_ot`)."""

import numpy as np


def tables(blocks: np.ndarray, digits: np.ndarray, corrections: np.ndarray, masks: np.ndarray, size: int) -> np.ndarray:
    """Entry by entry: uint64 [n]."""
    width = blocks.shape[1]
    out = np.zeros(len(digits), np.uint64)
    for j in range(1 << width):
        b = j ^ corrections.astype(np.int64)
        message = (b < digits).astype(np.int64) | ((b == digits).astype(np.int64) << 1 if size == 2 else 0)
        entry = message ^ masks ^ _pad(blocks[:, range(width), [j >> i & 1 for i in range(width)]], j, size)
        out |= entry.astype(np.uint64) << np.uint64(size * j)
    return out


def choices(bits: np.ndarray, blocks: np.ndarray, digits: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    c = (bits.astype(np.int64) << np.arange(bits.shape[1])).sum(axis=1)
    pads = np.array([_pad(blocks[k : k + 1], int(c[k]), size)[0] for k in range(len(digits))], np.uint8)
    return (digits ^ c).astype(np.uint8), pads


def open_entries(
    arrived: np.ndarray, digits: np.ndarray, corrections: np.ndarray, pads: np.ndarray, size: int
) -> np.ndarray:
    entries = [
        int(t) >> size * int(b ^ d) & (1 << size) - 1 for t, b, d in zip(arrived, digits, corrections, strict=True)
    ]
    return np.array(entries, np.uint8) ^ pads


def _pad(blocks: np.ndarray, j: int, size: int) -> np.ndarray:
    """Bits size j to size (j + 1) - 1 of the XOR of some blocks: uint8 [n, width, 16] -> [n]."""
    bits = np.unpackbits(np.bitwise_xor.reduce(blocks, axis=1), axis=1, bitorder="little")
    return (bits[:, size * j : size * (j + 1)] << np.arange(size)).sum(axis=1)
