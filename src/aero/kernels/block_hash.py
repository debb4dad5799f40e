"""What oblivious transfer needs of blocks of 128 bits: a tweaked hash, and the transposition of a bit matrix.

The hash is H(x, t) = pi(pi(x) ^ t) ^ pi(x), where pi is AES-128 under a fixed public key: TMMO of Guo, Katz, Wang and
Yu, "Efficient and Secure Multiparty Computation from Fixed-Key Block Ciphers", 2020, section 7.4. In the ideal-cipher
model it is tweakable circular correlation robust as long as no tweak is used twice with related inputs: callers count
tweaks up and never repeat one. Tested against the `cryptography` package's AES; not audited.
"""

import hashlib

import numpy as np

from aero.kernels.native import _native

# The fixed key: nothing up the sleeve.
FIXED_KEY = hashlib.sha256(b"aero/block_hash/v1").digest()[:16]

BLOCK_BYTES = 16
ROWS = 128


def hash_blocks(blocks: np.ndarray, tweaks: int | np.ndarray) -> np.ndarray:
    """Hash uint8 [n, 16] -> uint8 [n, 16].

    `tweaks`: uint64 [n], or an integer t for t, t + 1, ..., t + n - 1. Each is XORed, little-endian, into the first
    eight bytes. ValueError for other shapes or dtypes, or tweaks outside 64 bits.
    """
    if (
        not isinstance(blocks, np.ndarray)
        or blocks.dtype != np.uint8
        or blocks.ndim != 2
        or blocks.shape[1] != BLOCK_BYTES
    ):
        raise ValueError("blocks are a uint8 array of shape (n, 16)")
    n = len(blocks)
    if isinstance(tweaks, int):
        if not 0 <= tweaks <= 2**64 - n:
            raise ValueError(f"the tweaks {tweaks} to {tweaks} + {n} - 1 leave 64 bits: start a new session")
        tweaks = np.uint64(tweaks) + np.arange(n, dtype=np.uint64)
    if not isinstance(tweaks, np.ndarray) or tweaks.dtype != np.uint64 or tweaks.shape != (n,):
        raise ValueError(f"tweaks are an integer or a uint64 array of shape ({n},)")
    out = np.empty((n, BLOCK_BYTES), np.uint8)
    _native.aes_hash(FIXED_KEY, np.ascontiguousarray(blocks), np.ascontiguousarray(tweaks), out)
    return out


def transpose_128(rows: np.ndarray) -> np.ndarray:
    """Transpose 128 rows of n bits, uint8 [128, n / 8] packed lowest bit first -> uint8 [n, 16].

    Bit r of the block c (bit r mod 8 of its byte r div 8) is bit c of row r. ValueError for another shape or dtype.
    """
    if not isinstance(rows, np.ndarray) or rows.dtype != np.uint8 or rows.ndim != 2 or rows.shape[0] != ROWS:
        raise ValueError("the rows are a uint8 array of shape (128, n / 8)")
    out = np.empty((8 * rows.shape[1], BLOCK_BYTES), np.uint8)
    _native.transpose_128(np.ascontiguousarray(rows), out)
    return out
