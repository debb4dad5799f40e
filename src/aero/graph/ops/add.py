"""x + y, two values."""

import numpy as np

from aero.graph.ops.sheet import Attrs, Factor, Shape, Shapes, Sheet, Sum, need


def _shape(inputs: Shapes, weights: Shapes, attrs: Attrs) -> Shape:
    need(inputs[0] == inputs[1], f"add needs equal shapes, not {inputs[0]} and {inputs[1]}")
    return inputs[0]


SHEET = Sheet(
    inputs=2,
    weights=(),
    attrs={},
    optional={},
    shape=_shape,
    meaning=lambda x, y: x + y,
    arithmetic=Sum(),
    bound=lambda x, y: x + y,
    magnitude=lambda value, x, y: np.abs(x) + np.abs(y),
    row_by_row=True,
    factor=Factor.TERM,
    precision="activation",
    error_steps=1,
)
