"""Tables for private look-ups, encoded as the two-party engine does it."""

import numpy as np

from aero.mpc.protocols.embedding import MAX_BLOCKS, EmbeddingPlan, one_for_each_row, side_by_side
from aero.mpc.protocols.linear import LoadedWeights, load_weights


def load_table(plan: EmbeddingPlan, table: np.ndarray) -> LoadedWeights:
    """table: int64 [V, d]. NoRoomError where noise could exceed the plan's."""
    columns = np.ascontiguousarray(np.pad(table, ((0, MAX_BLOCKS - 1), (0, 0))).T)
    return load_weights(plan.product, side_by_side(plan, columns), nonzero=one_for_each_row(plan))
