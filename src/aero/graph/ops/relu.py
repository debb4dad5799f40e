"""max(x, 0)."""

import numpy as np

from aero.graph.ops.sheet import Factor, Function, Sheet, never_larger, own_magnitude, same_matrix

SHEET = Sheet(
    inputs=1,
    weights=(),
    attrs={},
    optional={},
    shape=same_matrix,
    meaning=lambda x: np.maximum(x, 0.0),
    arithmetic=Function(of="number"),
    bound=never_larger,
    magnitude=own_magnitude,
    row_by_row=True,
    factor=Factor.PASSES,
    precision="activation",
    error_steps=1,
)
