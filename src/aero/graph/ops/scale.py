"""x * factor, with a public factor."""

import math

import numpy as np

from aero.graph.ops.sheet import Factor, PublicProduct, Sheet, own_magnitude, same_shape

SHEET = Sheet(
    inputs=1,
    weights=(),
    attrs={"factor": float},
    optional={},
    shape=same_shape,
    meaning=lambda x, factor: x * factor,
    arithmetic=PublicProduct(
        form=lambda x, by, factor: x * by,
        terms=lambda inputs, *_: math.prod(inputs[0]),
        constants=lambda shape, factor: (np.array(factor),),
        computed=False,
        finer=0,
    ),
    bound=lambda x, factor: x * abs(factor),
    magnitude=own_magnitude,
    row_by_row=True,
    factor=Factor.PASSES,
    precision="activation",
    error_steps=1,
)
