"""x / sqrt(mean of squares + eps) over features: `layer_norm` of rows whose mean is zero.

heads: so many heads stand side by side in a row, and each is normalised by itself; 1 where it is left out.
"""

import numpy as np

from aero.graph.ops.sheet import Array, Attrs, Factor, Function, Shape, Shapes, Sheet, need, own_magnitude, same_matrix


def _shape(inputs: Shapes, weights: Shapes, attrs: Attrs) -> Shape:
    shape, heads = same_matrix(inputs, weights, attrs), int(attrs.get("heads", 1))
    need(heads > 0 and shape[1] % heads == 0, f"{heads} heads do not divide {shape}")
    return shape


def rms_norm(x: Array, eps: float, heads: int = 1) -> Array:
    apart = x.reshape(len(x), heads, -1)
    found: Array = apart / np.sqrt((apart**2).mean(axis=-1, keepdims=True) + eps)
    return found.reshape(x.shape)


def _bound(x: Array, eps: float, heads: int = 1) -> Array:
    """Of one entry of a row whose mean square is at most one."""
    return np.full_like(x, np.sqrt(x.size / heads))


SHEET = Sheet(
    inputs=1,
    weights=(),
    attrs={"eps": float},
    optional={"heads": int},
    shape=_shape,
    meaning=rms_norm,
    arithmetic=Function(of="row"),
    bound=_bound,
    magnitude=own_magnitude,
    row_by_row=True,
    factor=Factor.EPS,
    precision="activation",
    error_steps=1,
)
