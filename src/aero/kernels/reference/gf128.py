"""Inner products in GF(2^128), by definition (see `aero.kernels.gf128`)."""

import numpy as np

MODULUS = 1 << 128 | 1 << 7 | 1 << 2 | 1 << 1 | 1


def multiply(a: int, b: int) -> int:
    """The product of two polynomials, bit i the coefficient of X^i."""
    product = 0
    for i in range(128):
        product ^= (a << i) * (b >> i & 1)
    for i in reversed(range(128, 255)):
        product ^= (MODULUS << i - 128) * (product >> i & 1)
    return product


def dot(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    sums, picked = [], []
    for row in y:
        total, chosen = 0, 0
        for a, b in zip(x, row, strict=True):
            a, b = (int.from_bytes(block.tobytes(), "little") for block in (a, b))
            total ^= multiply(a, b)
            chosen ^= a * (b & 1)
        sums.append(total)
        picked.append(chosen)
    return _blocks(sums), _blocks(picked)


def _blocks(numbers: list[int]) -> np.ndarray:
    return np.frombuffer(b"".join(n.to_bytes(16, "little") for n in numbers), np.uint8).reshape(-1, 16)
