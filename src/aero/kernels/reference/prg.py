"""Sampling from an AES-128 counter-mode stream, by definition (see `aero.kernels.prg`).

Each function reads the stream of `key` from `block` on and returns its `n` results and the first block that it has not
looked at. The cipher is the `cryptography` package's.
"""

from collections.abc import Callable

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

BLOCK_BYTES = 16


def stream(key: bytes, block: int, length: int) -> np.ndarray:
    """`length` bytes of AES-128-CTR from `block` on, a 128-bit big-endian counter: uint8."""
    cipher = Cipher(algorithms.AES(key), modes.CTR(block.to_bytes(BLOCK_BYTES, "big"))).encryptor()
    return np.frombuffer(cipher.update(bytes(length)), np.uint8)


def _blocks(length: int) -> int:
    return -(-length // BLOCK_BYTES)


def sample_bytes(key: bytes, block: int, n: int) -> tuple[np.ndarray, int]:
    """The stream itself: uint8."""
    return stream(key, block, n), block + _blocks(n)


def sample_ring(key: bytes, block: int, n: int, bits: int) -> tuple[np.ndarray, int]:
    """Uniform in [0, 2^bits): little-endian 64-bit words, their low `bits` bits kept. uint64."""
    words = stream(key, block, 8 * n).view("<u8")
    return words & np.uint64(2**bits - 1), block + _blocks(8 * n)


def _accept(
    key: bytes, block: int, n: int, dtype: str, accepted: Callable[[np.ndarray], np.ndarray], mask: int
) -> tuple[np.ndarray, int]:
    """The first n candidates that `accepted` says yes to."""
    if n == 0:
        return np.zeros(0, dtype), block
    width = np.dtype(dtype).itemsize
    length = 4096
    while True:  # a longer stretch until there are enough; its length does not change the result
        candidates = stream(key, block, length).view(dtype) & np.dtype(dtype).type(mask)
        places = np.flatnonzero(accepted(candidates))
        if len(places) >= n:
            return candidates[places[:n]], block + _blocks((int(places[n - 1]) + 1) * width)
        length *= 2


def sample_below(key: bytes, block: int, n: int, q: int) -> tuple[np.ndarray, int]:
    """Uniform in [0, q): words cut to the bits of q - 1, those not below q rejected. uint64."""
    return _accept(key, block, n, "<u8", lambda words: words < np.uint64(q), 2 ** (q - 1).bit_length() - 1)


def sample_ternary(key: bytes, block: int, n: int) -> tuple[np.ndarray, int]:
    """Uniform in {-1, 0, 1}: bytes, 255 rejected, modulo 3, minus 1. int8."""
    values, following = _accept(key, block, n, "u1", lambda values: values != 255, 255)
    return (values % 3).astype(np.int8) - np.int8(1), following


def sample_binomial(key: bytes, block: int, n: int, eta: int) -> tuple[np.ndarray, int]:
    """Centred binomial: of each word, the ones among its low eta bits minus those among the next eta. int8."""
    bits = np.unpackbits(stream(key, block, 8 * n).reshape(n, 8), axis=1, bitorder="little")
    plus, minus = bits[:, :eta].sum(1, dtype=np.int8), bits[:, eta : 2 * eta].sum(1, dtype=np.int8)
    return plus - minus, block + _blocks(8 * n)


def sample_table(key: bytes, block: int, n: int, thresholds: np.ndarray) -> tuple[np.ndarray, int]:
    """Of each word, how many of the thresholds its upper 63 bits reach; negative where its lowest bit is set. int8."""
    words, following = sample_ring(key, block, n, 64)
    reached = (words[:, None] >> np.uint64(1) >= thresholds).sum(1).astype(np.int8)
    return np.where(words & np.uint64(1), -reached, reached), following


def sample_bits(key: bytes, block: int, n: int) -> tuple[np.ndarray, int]:
    """The stream's bits, lowest of each byte first: uint8 of 0 and 1."""
    length = -(-n // 8)
    return np.unpackbits(stream(key, block, length), bitorder="little")[:n], block + _blocks(length)
