"""What opening the outputs of a run will send, by what the server chose to reveal of them."""

from __future__ import annotations

from aero.engines.reveal import Reveal
from aero.graph.ring_plan import Format
from aero.mpc.cost import ProtocolCost
from aero.mpc.functions.argmax import TopKPlan
from aero.mpc.party import Role
from aero.mpc.share import open_cost


def output_costs(shape: tuple[int, ...], fmt: Format, reveal: Reveal, vocabulary: int) -> list[ProtocolCost]:
    """What opening sends, in the parts before which OTs are made ready."""
    if reveal.k is None:
        return [open_cost(shape, fmt.bits, Role.CLIENT)]
    plan = output_plan(shape, fmt, reveal, vocabulary)
    opened = open_cost((plan.rows, plan.k), plan.place_bits, Role.CLIENT)
    if reveal.values:
        opened = opened + open_cost((plan.rows, plan.k), fmt.bits, Role.CLIENT)
    return [*map(plan.merge_cost, plan.merges()), opened]


def output_plan(shape: tuple[int, ...], fmt: Format, reveal: Reveal, vocabulary: int) -> TopKPlan:
    """Of the outputs of one position each. ValueError where they have fewer columns than there are tokens."""
    if not 1 <= vocabulary <= shape[1]:
        raise ValueError(f"an output of {list(shape)} has no row of {vocabulary} logits to take the largest from")
    assert reveal.k is not None
    return TopKPlan(vocabulary, min(reveal.k, vocabulary), fmt.bits, fmt.fraction_bits, rows=shape[0])
