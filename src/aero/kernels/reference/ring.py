"""Matrix products modulo 2^64, by definition: NumPy's unsigned integers wrap around."""

import numpy as np


def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """uint64 [..., m, k] @ uint64 [..., k, n] -> uint64 [..., m, n], modulo 2^64."""
    return a @ b
