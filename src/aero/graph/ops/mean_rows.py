"""x [T, d] -> [1, d]: the mean of all rows."""

import numpy as np

from aero.graph.ops.sheet import Array, Attrs, Factor, PublicProduct, Shape, Shapes, Sheet, need, never_larger


def _shape(inputs: Shapes, weights: Shapes, attrs: Attrs) -> Shape:
    need(len(inputs[0]) == 2, f"a mean of rows is taken of [rows, features], not {inputs[0]}")
    return (1, inputs[0][1])


def _scaled_sum(x: Array, part: Array) -> Array:
    return x.sum(axis=0, keepdims=True) * part


def _part(shape: Shape) -> tuple[Array, ...]:
    """Of each row; a quotient of two whole numbers is the same on every machine."""
    return (np.array(1.0 / shape[0]),)


def mean_rows(x: Array) -> Array:
    return _scaled_sum(x, *_part(x.shape))


SHEET = Sheet(
    inputs=1,
    weights=(),
    attrs={},
    optional={},
    shape=_shape,
    meaning=mean_rows,
    # 1/T is rounded finer than x: it multiplies the sum of T rows.
    arithmetic=PublicProduct(
        form=_scaled_sum, terms=lambda inputs, *_: inputs[0][1], constants=_part, computed=False, finer=12
    ),
    bound=never_larger,
    magnitude=lambda value, x: mean_rows(np.abs(x)),
    row_by_row=False,
    factor=Factor.PASSES,
    precision="activation",
    error_steps=2,
)
