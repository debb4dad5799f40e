"""(x - mean) / sqrt(variance + eps) over features; gain and bias are operations of their own."""

import numpy as np

from aero.graph.ops.sheet import Array, Factor, Function, Sheet, same_matrix


def layer_norm(x: Array, eps: float) -> Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + eps)


def _magnitude(value: Array, x: Array, eps: float) -> Array:
    """The mean is subtracted from entries that may be larger than what is left."""
    return np.abs(value) + np.abs(x) / np.sqrt(x.var(axis=-1, keepdims=True) + eps)


def _bound(x: Array, eps: float) -> Array:
    """Of one entry of a row whose mean square is at most one."""
    return np.full_like(x, np.sqrt(x.size))


SHEET = Sheet(
    inputs=1,
    weights=(),
    attrs={"eps": float},
    optional={},
    shape=same_matrix,
    meaning=layer_norm,
    arithmetic=Function(of="row"),
    bound=_bound,
    magnitude=_magnitude,
    row_by_row=True,
    factor=Factor.EPS,
    precision="activation",
    error_steps=1,
)
