"""x / sqrt(mean of squares + eps) over features: `layer_norm` of rows whose mean is zero."""

import numpy as np

from aero.graph.ops.sheet import Array, Factor, Function, Sheet, normed_bound, own_magnitude, same_matrix


def rms_norm(x: Array, eps: float) -> Array:
    return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + eps)


SHEET = Sheet(
    inputs=1,
    weights=(),
    attrs={"eps": float},
    optional={},
    shape=same_matrix,
    meaning=rms_norm,
    arithmetic=Function(of="row"),
    bound=normed_bound,
    magnitude=own_magnitude,
    row_by_row=True,
    factor=Factor.EPS,
    precision="activation",
    error_steps=1,
)
