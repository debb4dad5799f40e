"""x * w, with w the server's: a scalar, [features] or [rows, features]."""

from aero.graph.ops.sheet import Factor, Sheet, WeightProduct, broadcast, over_rows, own_magnitude

SHEET = Sheet(
    inputs=1,
    weights=("w",),
    attrs={},
    optional={},
    shape=broadcast,
    meaning=lambda x, w: x * w,
    arithmetic=WeightProduct(
        form=lambda x, w: x * w, terms=lambda inputs, *_: inputs[0][0] * inputs[0][1], whole=False
    ),
    bound=lambda x, w: x * over_rows(w),
    magnitude=own_magnitude,
    row_by_row=True,
    factor=Factor.WEIGHT,
    precision="activation",
    error_steps=52,
)
