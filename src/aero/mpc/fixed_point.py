"""Integers in the ring modulo 2^bits, signed by two's complement; `aero.graph.ring_plan.Format` says which real numbers
they stand for."""

from __future__ import annotations

import numpy as np

RING_BITS = 64


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
