"""Bit packing, by definition (see `aero.kernels.bitpack`)."""

import numpy as np


def pack(values: np.ndarray, width: int) -> np.ndarray:
    """uint64 [n] -> uint8 [ceil(n width / 8)]: the low `width` bits of each value in turn, lowest bit first."""
    bits = np.unpackbits(values.astype("<u8").view(np.uint8).reshape(-1, 8), axis=1, bitorder="little")
    return np.packbits(bits[:, :width].reshape(-1), bitorder="little")


def unpack(data: np.ndarray, count: int, width: int) -> np.ndarray:
    """uint8 [ceil(count width / 8)] -> uint64 [count]."""
    bits = np.unpackbits(data, count=count * width, bitorder="little").reshape(count, width)
    words = np.zeros((count, 64), np.uint8)
    words[:, :width] = bits
    return np.packbits(words, axis=1, bitorder="little").view("<u8").reshape(count)
