"""The features of x, then those of y."""

import numpy as np

from aero.graph.ops.sheet import Attrs, Factor, Move, Shape, Shapes, Sheet, need, own_magnitude


def _shape(inputs: Shapes, weights: Shapes, attrs: Attrs) -> Shape:
    x, y = inputs
    need(len(x) == 2 and len(y) == 2 and x[0] == y[0], f"{x} and {y} have not as many rows as one another")
    return (x[0], x[1] + y[1])


SHEET = Sheet(
    inputs=2,
    weights=(),
    attrs={},
    optional={},
    shape=_shape,
    meaning=lambda x, y: np.concatenate([x, y], axis=1),
    arithmetic=Move(of="features"),
    bound=lambda x, y: np.concatenate([x, y]),
    magnitude=own_magnitude,
    row_by_row=True,
    factor=Factor.STAYS,
    precision="activation",
    error_steps=1,
)
