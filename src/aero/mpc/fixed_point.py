"""Fixed-point numbers in the ring of integers modulo 2^64.

A real x is held as the integer round(x * 2^f) modulo 2^64, signed by two's complement. A product of two such numbers
has 2f fractional bits; `truncate` brings it back to f.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RING_BITS = 64


@dataclass(frozen=True)
class FixedPoint:
    """A codec between float64 and ring elements (int64 arrays, whose arithmetic wraps modulo 2^64).

    fraction_bits: f; the step between neighbouring numbers is 2^-f.
    """

    fraction_bits: int = 18

    def __post_init__(self) -> None:
        if not 1 <= self.fraction_bits <= 30:
            raise ValueError(f"fraction_bits is {self.fraction_bits}; choose 1 to 30, so that a product fits 64 bits")

    @property
    def step(self) -> float:
        return 2.0**-self.fraction_bits

    def encode(self, x: np.ndarray) -> np.ndarray:
        """float64 -> int64, to the nearest step. ValueError where a number does not fit."""
        scaled = np.rint(np.asarray(x, dtype=np.float64) * 2.0**self.fraction_bits)
        if not (np.abs(scaled) < 2.0 ** (RING_BITS - 1)).all():
            raise ValueError(f"a value does not fit a {RING_BITS}-bit ring with {self.fraction_bits} fractional bits")
        return scaled.astype(np.int64)

    def decode(self, x: np.ndarray) -> np.ndarray:
        """int64 -> float64."""
        return x.astype(np.float64) * self.step

    def truncate(self, x: np.ndarray) -> np.ndarray:
        """From 2f to f fractional bits, rounding down: an error in [0, 1) steps."""
        return x >> self.fraction_bits


def to_ring(x: np.ndarray, bits: int) -> np.ndarray:
    """int64 -> the same numbers modulo 2^bits, as uint64 below 2^bits."""
    return reduce_ring(np.ascontiguousarray(x, dtype=np.int64).view(np.uint64), bits)


def from_ring(values: np.ndarray, bits: int) -> np.ndarray:
    """uint64 below 2^bits -> int64 from -2^(bits-1) to 2^(bits-1) - 1, by two's complement."""
    up = RING_BITS - bits
    return (values << np.uint64(up)).view(np.int64) >> np.int64(up)


def reduce_ring(values: np.ndarray, bits: int) -> np.ndarray:
    """uint64 modulo 2^bits."""
    return values if bits == RING_BITS else values & np.uint64((1 << bits) - 1)
