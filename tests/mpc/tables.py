"""Tables for private look-ups, encoded as the two-party engine does it, and look-ups in them."""

import numpy as np

from aero.kernels.lattice_matmul import Columns
from aero.kernels.lattice_noise import ColumnSizes
from aero.mpc.dealer import insecure_ots
from aero.mpc.fixed_point import from_ring, reduce_ring
from aero.mpc.party import Party
from aero.mpc.protocols.embedding import MAX_BLOCKS, EmbeddingPlan, side_by_side
from aero.mpc.protocols.grouped_embedding import GroupedPlan, LoadedTable, arranged, load_groups
from aero.mpc.protocols.keys import exchange_keys
from aero.mpc.protocols.linear import LoadedWeights, load_weights, product_noise
from mpc.parties import Run, run_both


def load_table(plan: EmbeddingPlan | GroupedPlan, table: np.ndarray) -> LoadedWeights | LoadedTable:
    """table: int64 [V, d]. NoRoomError where noise could exceed the plan's."""
    if isinstance(plan, GroupedPlan):
        columns = Columns.of(table)
        noise = product_noise(plan.product, ColumnSizes.of_columns(columns), nonzero=plan.one_for_each_row)
        return load_groups(plan, arranged(columns.parts[0], plan.rows), noise + plan.order_noise)
    columns = np.ascontiguousarray(np.pad(table, ((0, MAX_BLOCKS - 1), (0, 0))).T)
    return load_weights(plan.product, side_by_side(plan, columns), nonzero=plan.one_for_each_row)


def looked_up(plan: EmbeddingPlan | GroupedPlan, table: np.ndarray, ids: np.ndarray) -> Run:
    """Each party's share, and what it sent and received for it. Shares have 16 fractional bits."""
    ends = insecure_ots()

    def program(party: Party):
        party.ots = ends[party.role]
        exchange_keys(party, plan.client_keys)
        before = party.channel.traffic
        given = (ids, None) if party.is_client else (None, load_table(plan, table))
        share = plan.run(party, 16, *given)
        return share, party.channel.traffic - before

    return run_both(program)


def assert_looks_up(plan: EmbeddingPlan | GroupedPlan, table: np.ndarray, ids: np.ndarray) -> None:
    """The right rows, but for the stated noise, at the declared cost."""
    (client, traffic), (server, _) = looked_up(plan, table, ids).results
    bits = plan.output_bits
    error = from_ring(reduce_ring(client.values + server.values - table[ids].astype(np.uint64), bits), bits)
    assert np.abs(error).max() <= load_table(plan, table).noise.total <= plan.product.max_error
    declared = plan.cost()
    assert (traffic.bytes_sent, traffic.bytes_received, traffic.messages) == (
        declared.bytes_client_to_server,
        declared.bytes_server_to_client,
        declared.messages,
    )
    assert traffic.rounds == declared.rounds or traffic.rounds == 1  # the upload may travel with the keys
    assert (client.bits, client.fraction_bits) == (server.bits, server.fraction_bits) == (bits, 16)
