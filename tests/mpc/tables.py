"""Tables for private look-ups, encoded as the two-party engine does it."""

import numpy as np

from aero.kernels.lattice_matmul import Columns
from aero.kernels.lattice_noise import ColumnSizes
from aero.mpc.protocols.embedding import MAX_BLOCKS, EmbeddingPlan, one_for_each_row, side_by_side
from aero.mpc.protocols.grouped_embedding import GroupedPlan, LoadedTable, arranged, load_groups
from aero.mpc.protocols.linear import LoadedWeights, load_weights, product_noise


def load_table(plan: EmbeddingPlan | GroupedPlan, table: np.ndarray) -> LoadedWeights | LoadedTable:
    """table: int64 [V, d]. NoRoomError where noise could exceed the plan's."""
    if isinstance(plan, GroupedPlan):
        columns = Columns.of(table)
        noise = product_noise(plan.product, ColumnSizes.of_columns(columns), nonzero=one_for_each_row(plan))
        return load_groups(plan, arranged(columns.parts[0], plan.rows), noise + plan.order_noise)
    columns = np.ascontiguousarray(np.pad(table, ((0, MAX_BLOCKS - 1), (0, 0))).T)
    return load_weights(plan.product, side_by_side(plan, columns), nonzero=one_for_each_row(plan))
