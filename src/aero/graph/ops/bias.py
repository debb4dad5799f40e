"""x + w, with w the server's: a scalar, [features] or [rows, features]."""

from aero.graph.ops.sheet import Factor, Sheet, Sum, broadcast, over_rows, own_magnitude

SHEET = Sheet(
    inputs=1,
    weights=("w",),
    attrs={},
    optional={},
    shape=broadcast,
    meaning=lambda x, w: x + w,
    arithmetic=Sum(),
    bound=lambda x, w: x + over_rows(w),
    magnitude=own_magnitude,
    row_by_row=True,
    factor=Factor.STAYS,
    precision="activation",
    error_steps=1,
)
