"""Inner products in GF(2^128) = GF(2)[X] / (X^128 + X^7 + X^2 + X + 1): universal hashes of blocks.

A block is uint8 [16]; the coefficient of X^i is bit i mod 8 of byte i div 8. Tested against `reference/gf128.py` and
against the GHASH inside another library's AES-GCM; not audited.
"""

import numpy as np

from aero.kernels.native import _native

BLOCK_BYTES = 16
POWERS = np.packbits(np.eye(128, dtype=np.uint8), axis=1, bitorder="little")
"""X^0, ..., X^127: uint8 [128, 16]."""


def dot(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x [n, 16], y [rows, n, 16] -> the sums of x[j] y[r, j] over j [rows, 16]; and the XOR of the x[j] for which the
    lowest bit of y[r, j] is one [rows, 16].

    Constant time. ValueError for other shapes or dtypes.
    """
    if any(not isinstance(array, np.ndarray) or array.dtype != np.uint8 for array in (x, y)):
        raise ValueError("blocks are uint8 arrays")
    if x.ndim != 2 or y.ndim != 3 or y.shape[1:] != x.shape or x.shape[1] != BLOCK_BYTES:
        raise ValueError(f"factors of the shapes {x.shape} and {y.shape}: they are (n, 16) and (rows, n, 16)")
    out, picked = (np.empty((len(y), BLOCK_BYTES), np.uint8) for _ in range(2))
    _native.gf128_dot(np.ascontiguousarray(x), np.ascontiguousarray(y), out, picked)
    return out, picked
