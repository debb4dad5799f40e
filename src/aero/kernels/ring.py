"""Matrix products modulo 2^64, on uint64 arrays."""

import math

import numpy as np

from aero.kernels.native import _native


def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a @ b modulo 2^64: uint64 [..., m, k] and [..., k, n] -> [..., m, n], batch dimensions broadcast as in NumPy.

    ValueError for another dtype, fewer than two dimensions, or shapes that do not fit.
    """
    for operand in (a, b):
        if not isinstance(operand, np.ndarray) or operand.dtype != np.uint64:
            raise ValueError("a ring product takes uint64 arrays: convert them with .astype(np.uint64)")
        if operand.ndim < 2:
            raise ValueError("a ring product takes matrices: give a vector a second axis")
    (m, k), (b_rows, n) = a.shape[-2:], b.shape[-2:]
    if k != b_rows:
        raise ValueError(f"the shapes {a.shape} and {b.shape} do not fit: a has {k} columns, b has {b_rows} rows")
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    if math.prod(b.shape[:-2]) == 1:  # one b for all: the rows of every a are rows of one matrix
        rows_of_all = math.prod(batch) * m
        left, right = np.ascontiguousarray(a).reshape(1, rows_of_all, k), _batched(b, ())
        out = np.empty((1, rows_of_all, n), np.uint64)
    else:
        left, right = _batched(a, batch), _batched(b, batch)
        out = np.empty((math.prod(batch), m, n), np.uint64)
    _native.ring_matmul(left, right, out)
    return out.reshape(*batch, m, n)


def _batched(matrices: np.ndarray, batch: tuple[int, ...]) -> np.ndarray:
    """[..., r, c] -> contiguous [product of batch, r, c], or [1, r, c] where there is one matrix for all."""
    r, c = matrices.shape[-2:]
    if math.prod(matrices.shape[:-2]) == 1:
        return np.ascontiguousarray(matrices).reshape(1, r, c)
    return np.ascontiguousarray(np.broadcast_to(matrices, (*batch, r, c))).reshape(math.prod(batch), r, c)
