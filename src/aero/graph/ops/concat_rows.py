"""The rows of x, then those of y."""

import numpy as np

from aero.graph.ops.sheet import Attrs, Factor, Move, Shape, Shapes, Sheet, need, own_magnitude


def _shape(inputs: Shapes, weights: Shapes, attrs: Attrs) -> Shape:
    x, y = inputs
    need(len(x) == 2 and len(y) == 2 and x[1] == y[1], f"rows of {x} and {y} differ in width")
    return (x[0] + y[0], x[1])


SHEET = Sheet(
    inputs=2,
    weights=(),
    attrs={},
    optional={},
    shape=_shape,
    meaning=lambda x, y: np.concatenate([x, y]),
    arithmetic=Move(of="rows"),
    bound=np.maximum,
    magnitude=own_magnitude,
    row_by_row=False,
    factor=Factor.STAYS,
    precision="activation",
    error_steps=1,
)
