"""x [T, k], w [k, m], b [m] -> x w + b."""

import numpy as np

from aero.graph.ops.sheet import Array, Attrs, Factor, Shape, Shapes, Sheet, WeightProduct, need


def _shape(inputs: Shapes, weights: Shapes, attrs: Attrs) -> Shape:
    (x,), w = inputs, weights[0]
    need(len(x) == 2 and len(w) == 2 and x[1] == w[0], f"linear cannot multiply {x} by {w}")
    need(len(weights) == 1 or weights[1] == (w[1],), f"a bias for {w} has shape [{w[1]}], not {weights[1:]}")
    return (x[0], w[1])


def _linear(x: Array, w: Array, b: Array | None = None) -> Array:
    return x @ w if b is None else x @ w + b


SHEET = Sheet(
    inputs=1,
    weights=("w", "b?"),
    attrs={},
    optional={},
    shape=_shape,
    meaning=_linear,
    arithmetic=WeightProduct(
        form=lambda x, w: x @ w,
        terms=lambda inputs, weights, _: inputs[0][0] * weights[0][0] * weights[0][1],
        whole=True,
    ),
    bound=_linear,
    magnitude=lambda value, x, w, b=None: np.abs(x) @ np.abs(w),
    row_by_row=True,
    factor=Factor.WEIGHT,
    precision="activation",
    error_steps=52,
)
