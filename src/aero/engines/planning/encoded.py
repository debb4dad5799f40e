"""The integers that a product multiplies by, from the server's weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aero.engines.planning.steps import Group
from aero.graph.ring_plan import RingPlan, encode, shift


def encoded_matrix(plan: RingPlan, group: Group, arrays: Sequence[np.ndarray]) -> NDArray[np.int64]:
    """What the steps of a group are multiplied by together, in fixed point: their weights side by side, the diagonal of
    a gain, the table of an embedding."""
    matrices, first = [], group[0]
    for step, array in zip(group, arrays, strict=True):
        w = np.asarray(array, dtype=np.float64)
        if step.node.op == "gain":
            w = np.diag(np.broadcast_to(w, (step.input_shapes[0][1],)))
        name = step.node.weights[0]
        matrices.append(encode(name, w, plan.of_weight(name)))
    if first.node.op == "embedding":
        return shift(matrices[0], plan.of_weight(first.node.weights[0]).fraction_bits - first.output.fraction_bits)
    return np.concatenate(matrices, axis=1)
