"""[table[ids]]: rows of the server's table that the client chooses, without showing which.

The table's V rows are cut into B blocks of R rows, side by side: a matrix of R rows with B candidates each. The client
knows its ids, of T tokens; row id stands in block id // R, at position id % R.

1. Client: encrypts, for each token, the row of R numbers that is one at its position and zero elsewhere, as in
   linear.py; and sends what the 1-of-B OT needs of the block.                                     client -> server
2. Server: the product with the matrix, additive shares of all B candidates. It draws its share S of the result,
   and offers its share of each candidate, less S.                                                 server -> client
3. [row]: the client adds the offer of its block to its own share of that candidate; the server has S.

2 rounds. With one block, the product is the result and there is no OT. The client learns one candidate's share less a
uniform S, the server nothing but T. Off by at most `LinearPlan.max_error` steps, as a product with weights.
docs/security/embedding.md has the argument.

For many ids of a large table `grouped_embedding.py` takes less; `plan_embedding` chooses.

Blocks behind a private choice are an old trade of upload against work; here the choice of a block is an OT because the
candidates are already shared (engine design after Cheetah, Huang et al. 2022, and BumbleBee, Lu et al. 2023).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aero.kernels.lattice_cost import cost_of
from aero.kernels.lattice_matmul import Columns
from aero.kernels.rlwe import WEIGHTS
from aero.mpc.cost import ProtocolCost
from aero.mpc.fixed_point import reduce_ring
from aero.mpc.ot.one_of import one_of_cost, receive_one_of, send_one_of
from aero.mpc.party import Party, Role
from aero.mpc.protocols.grouped_embedding import GroupedPlan, plan_grouped
from aero.mpc.protocols.linear import (
    LinearPlan,
    LoadedWeights,
    ask,
    plan_product,
    prepare_answer,
    read_answer,
    smallest_params,
)
from aero.mpc.protocols.look_up import LookUp
from aero.mpc.share import Share

MAX_BLOCKS = 32
MAX_ERROR = 512.0
"""Steps of the result's last place that noise may cost. More than of a linear layer, as no bits are dropped after this
product: a step is 2^-16 of an activation, and the deviation is a tenth of the bound."""
NETWORK_RATE = 12e6
"""Bytes per second that the number of blocks is chosen for."""


@dataclass(frozen=True)
class EmbeddingPlan(LookUp[LoadedWeights]):
    """What both parties must agree on. blocks: B; product: [T, R] by [R, B d]."""

    blocks: int

    def cost(self) -> ProtocolCost:
        product = self.product.cost()
        if self.blocks == 1:
            return product
        return product | one_of_cost(Role.SERVER, self.tokens, self.blocks, self.columns, self.output_bits)

    def _run(
        self,
        party: Party,
        fraction_bits: int,
        ids: NDArray[np.int64] | None = None,
        table: LoadedWeights | None = None,
    ) -> Share:
        """[table[ids]], [T, d]."""
        bits, several = self.output_bits, self.blocks > 1
        stacked = (self.tokens, self.blocks, self.columns)
        if party.is_client:
            ids = self.wanted(ids)
            # Comparisons in place of a division, and of an index: neither time nor an address depends on an id.
            block = (ids[:, None] >= self.positions * np.arange(1, self.blocks)).sum(axis=1)
            hot = (ids - self.positions * block)[:, None] == np.arange(self.positions)
            ask(party, self.product, Share(hot.astype(np.uint64), bits))
            offer = receive_one_of(party, block, self.blocks, self.columns, bits) if several else np.uint64(0)
            candidates = read_answer(party, self.product).reshape(stacked)
            own = (block[:, None] == np.arange(self.blocks)).astype(np.uint64)
            mine = (candidates * own[..., None]).sum(axis=1, dtype=np.uint64)
            return Share(reduce_ring(mine + offer, bits), bits, fraction_bits)
        response, candidates = prepare_answer(party, self.product, None, table)
        share = candidates
        if several:
            share = party.stream("masks").uniform((self.tokens, self.columns), bits)
            offers = reduce_ring(candidates.reshape(stacked) - share[:, None], bits)
            send_one_of(party, offers, bits)
        party.channel.send(response)
        return Share(share, bits, fraction_bits)


def plan_embedding(
    tokens: int,
    rows: int,
    columns: int,
    output_bits: int,
    *,
    modulus_bits: int = 0,
    opened: bool = False,
    weight_bits: int = 64,
) -> EmbeddingPlan | GroupedPlan:
    """Rows of a table [rows, columns] for `tokens` ids, in the ring of 2^output_bits: in blocks, or for many ids
    in groups, whichever is predicted to take less. modulus_bits, opened, weight_bits: as in `plan_linear`."""
    seconds, plan = _plan_blocks(tokens, rows, columns, output_bits, modulus_bits, weight_bits if opened else None)
    usual = smallest_params(WEIGHTS, modulus_bits)
    grouped = None if opened else plan_grouped(tokens, rows, columns, output_bits, usual, MAX_ERROR, NETWORK_RATE)
    return plan if grouped is None or seconds <= grouped[0] else grouped[1]


def _plan_blocks(
    tokens: int, rows: int, columns: int, output_bits: int, modulus_bits: int, opened_bits: int | None
) -> tuple[float, EmbeddingPlan]:
    """The cheapest number of blocks, and predicted seconds before it."""
    best: tuple[float, EmbeddingPlan] | None = None
    opened = opened_bits is not None
    if tokens > 1:  # the table's transforms are those of as many blocks as a single token takes
        single = _plan_blocks(1, rows, columns, output_bits, modulus_bits, opened_bits)[1].blocks
    for blocks in _count_blocks(rows):
        positions = -(-rows // blocks)
        product, prepared = plan_product(
            (tokens, positions, blocks * columns),
            output_bits,
            output_bits,
            smallest_params(WEIGHTS, modulus_bits),
            opened_bits,
            bytes_per_second=NETWORK_RATE,
            kept=tokens == 1 or blocks == single,
        )
        linear = LinearPlan(product, prepared, MAX_ERROR, opened)
        plan = EmbeddingPlan(tokens, rows, columns, linear, blocks)
        chosen = (plan.cost().total_bytes - plan.product.cost().total_bytes) / NETWORK_RATE
        seconds = cost_of(product, prepared=prepared, bytes_per_second=NETWORK_RATE).seconds + chosen
        if best is None or seconds < best[0]:
            best = seconds, plan
    assert best is not None
    return best


def _count_blocks(rows: int) -> list[int]:
    return [1 << k for k in range(MAX_BLOCKS.bit_length()) if 1 << k <= rows]


def side_by_side(plan: EmbeddingPlan, columns: NDArray[Any]) -> Columns:
    """The blocks of the table, [R, B d], in the memory of its columns, integers [d, V + MAX_BLOCKS - 1], zeros last."""
    starts = range(0, plan.blocks * plan.positions, plan.positions)
    return Columns(tuple(columns[:, start : start + plan.positions] for start in starts))
