"""x * y, two values, number by number."""

import math

import numpy as np

from aero.graph.ops.sheet import Attrs, ElementProduct, Factor, Shape, Shapes, Sheet, need, own_magnitude


def _shape(inputs: Shapes, weights: Shapes, attrs: Attrs) -> Shape:
    x, y = inputs
    need(len(x) == 2 and x == y, f"multiply needs equal matrices, not {x} and {y}")
    return x


SHEET = Sheet(
    inputs=2,
    weights=(),
    attrs={},
    optional={},
    shape=_shape,
    meaning=np.multiply,
    arithmetic=ElementProduct(form=np.multiply, terms=lambda inputs, *_: math.prod(inputs[0])),
    bound=np.multiply,
    magnitude=own_magnitude,
    row_by_row=True,
    factor=Factor.PASSES,
    precision="activation",
    error_steps=2,
)
