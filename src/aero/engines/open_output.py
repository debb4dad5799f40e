"""The end of a run: of the output, which is in shares, the client learns what the server chose to reveal.

All logits are opened as they are. The k largest, or the greedy token, are found first by a tournament in which nothing
is opened (`aero.mpc.functions.argmax`); what stays in shares is thrown away.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from aero.engines.plain import decode
from aero.engines.reveal import Reveal
from aero.graph.ring_plan import Format
from aero.mpc.cost import ProtocolCost
from aero.mpc.fixed_point import from_ring
from aero.mpc.functions.argmax import TopKPlan, plan_top_k, top_k
from aero.mpc.party import Party, Role
from aero.mpc.share import Share, open_cost, open_shares


def open_output(
    party: Party,
    x: Share,
    what: str,
    reveal: Reveal,
    vocabulary: int,
    reserve: Callable[[ProtocolCost], None],
) -> np.ndarray | None:
    """The client's outputs, float64 in the shape of `x` [rows, V]; None to the server.

    vocabulary: how many columns stand for tokens. reserve: called with the cost of what needs OTs next.
    To the client alone: the server would learn of the client's key from an opened product.
    """
    held = Format(x.bits, x.fraction_bits)
    if reveal.k is None:
        opened = open_shares(party, x, Role.CLIENT, what)
        return None if opened is None else decode(from_ring(opened, x.bits), held)
    plan = output_plan(x.shape, held, reveal, vocabulary)
    largest, places = top_k(party, plan, x.of(x.values[:, :vocabulary]), begin=reserve)
    ids = open_shares(party, places, Role.CLIENT, f"{what}: ids")
    values = open_shares(party, largest, Role.CLIENT, f"{what}: values") if reveal.values else None
    if ids is None:
        return None
    # Others come from a server that moved its shares alone, and an error would tell it something of the token.
    ids = np.minimum(ids, vocabulary - 1)
    logits = None if values is None else decode(from_ring(values, x.bits), held)
    return reveal.spread(ids.astype(np.int64), logits, x.shape[1])


def output_costs(shape: tuple[int, ...], held: Format, reveal: Reveal, vocabulary: int) -> list[ProtocolCost]:
    """What `open_output` sends, in the parts before which OTs are made ready."""
    if reveal.k is None:
        return [open_cost(shape, held.bits, Role.CLIENT)]
    plan = output_plan(shape, held, reveal, vocabulary)
    opened = open_cost((plan.rows, plan.k), plan.place_bits, Role.CLIENT)
    if reveal.values:
        opened = opened + open_cost((plan.rows, plan.k), held.bits, Role.CLIENT)
    return [*map(plan.stage_cost, plan.stages()), opened]


def output_plan(shape: tuple[int, ...], held: Format, reveal: Reveal, vocabulary: int) -> TopKPlan:
    """Of the outputs of one position each. ValueError where they have fewer columns than there are tokens."""
    if not 1 <= vocabulary <= shape[1]:
        raise ValueError(f"an output of {list(shape)} has no row of {vocabulary} logits to take the largest from")
    assert reveal.k is not None
    return plan_top_k(vocabulary, min(reveal.k, vocabulary), held.bits, held.fraction_bits, rows=shape[0])
