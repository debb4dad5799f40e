"""x / (1 + e^-x), also called swish."""

import numpy as np

from aero.graph.ops.sheet import Array, Factor, Function, Sheet, never_larger, own_magnitude, same_matrix


def silu(x: Array) -> Array:
    """By e^-|x|, which is at most one."""
    e = np.exp(-np.abs(x))
    return x * np.where(x < 0, e, 1.0) / (1.0 + e)


SHEET = Sheet(
    inputs=1,
    weights=(),
    attrs={},
    optional={},
    shape=same_matrix,
    meaning=silu,
    arithmetic=Function(of="number"),
    bound=never_larger,
    magnitude=own_magnitude,
    row_by_row=True,
    factor=Factor.STAYS,
    precision="activation",
    error_steps=1,
)
