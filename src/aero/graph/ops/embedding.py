"""ids [T], table [V, d] -> [T, d]: rows of a table. The client knows the ids, the server the table."""

from aero.graph.ops.sheet import Attrs, Factor, LookUp, Shape, Shapes, Sheet, need, own_magnitude


def _shape(inputs: Shapes, weights: Shapes, attrs: Attrs) -> Shape:
    need(len(inputs[0]) == 1, f"embedding reads token ids of shape [T], not {inputs[0]}")
    need(len(weights[0]) == 2, f"an embedding table has shape [V, d], not {weights[0]}")
    return (inputs[0][0], weights[0][1])


SHEET = Sheet(
    inputs=1,
    weights=("table",),
    attrs={},
    optional={},
    shape=_shape,
    meaning=lambda ids, table: table[ids],
    arithmetic=LookUp(),
    bound=lambda table: table.max(axis=0),
    magnitude=own_magnitude,
    row_by_row=False,  # it reads no matrix
    factor=Factor.STAYS,
    precision="activation",
    error_steps=512,
)
