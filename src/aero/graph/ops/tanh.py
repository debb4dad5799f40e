"""The hyperbolic tangent, of each number."""

import numpy as np

from aero.graph.ops.sheet import Factor, Function, Sheet, own_magnitude, same_matrix

SHEET = Sheet(
    inputs=1,
    weights=(),
    attrs={},
    optional={},
    shape=same_matrix,
    meaning=np.tanh,
    arithmetic=Function(of="number"),
    bound=lambda x: np.minimum(x, 1.0),
    magnitude=own_magnitude,
    row_by_row=True,
    factor=Factor.STAYS,
    precision="activation",
    error_steps=1,
)
