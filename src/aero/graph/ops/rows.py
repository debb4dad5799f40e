"""x[start:stop], with public bounds."""

from aero.graph.ops.sheet import Attrs, Factor, Move, Shape, Shapes, Sheet, need, never_larger, own_magnitude


def _shape(inputs: Shapes, weights: Shapes, attrs: Attrs) -> Shape:
    x, start, stop = inputs[0], int(attrs["start"]), int(attrs["stop"])
    need(len(x) == 2 and 0 <= start < stop <= x[0], f"rows {start}:{stop} are not in {x}")
    return (stop - start, x[1])


SHEET = Sheet(
    inputs=1,
    weights=(),
    attrs={"start": int, "stop": int},
    optional={},
    shape=_shape,
    meaning=lambda x, start, stop: x[start:stop],
    arithmetic=Move(of="rows"),
    bound=never_larger,
    magnitude=own_magnitude,
    row_by_row=False,
    factor=Factor.PASSES,
    precision="activation",
    error_steps=1,
)
