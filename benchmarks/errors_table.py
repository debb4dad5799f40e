"""Write the table of docs/security/errors.md: what the errors of each product of GPT-2 small are, from its plans.

    python benchmarks/errors_table.py --out docs/security/errors.md

Replaces what stands between the two marks in that file, and nothing else. Number formats are those that `aero
cost` prices with; the weights' standard deviation is taken as a quarter of what their format holds.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from sections import table, write_section

from aero.compiler.architecture import outline
from aero.cost.two_party import WEIGHTS
from aero.engines.planning.stages import Stage
from aero.engines.planning.step_plans import checked_schedule, group_plan, wear_of
from aero.graph import Graph
from aero.graph.ring_plan import RingPlan
from aero.kernels.lattice_noise import share_noise
from aero.models.notation import parse
from aero.models.presets import SIZES
from aero.mpc import hints
from aero.mpc.protocols import linear
from aero.mpc.protocols.embedding import EmbeddingPlan
from aero.mpc.protocols.grouped_embedding import GroupedPlan
from aero.mpc.protocols.linear import LinearPlan
from aero.mpc.protocols.pair import PairPlan
from aero.mpc.protocols.stacked import StackedPlan

NAME = "errors"
LENGTH = 128
HEADER = (
    "run", "product", "numbers", "bits", "digits", "log2 Q", "known noise", "own noise", "nats at most", "of a key",
)  # fmt: skip


def rows(run: str, graph: Graph, plan: RingPlan) -> Iterator[tuple[str, ...]]:
    """A line for each kind of product, those of equal plans together, and one for the whole run."""
    stages = checked_schedule([graph], plan).stages
    found = Counter(product for stage in stages for product in _products(stage))
    total = 0.0
    for (op, plan, known), times in found.items():
        numbers, own = times * _numbers(plan), hints.SERVER_NOISE
        product = plan.products[0] if isinstance(plan, PairPlan) else plan.product
        nats = numbers * math.log1p((known / own) ** 2) / 2
        total += nats
        shown = isinstance(plan, LinearPlan) and plan.opened
        yield (
            run,
            f"{op}, opened" if shown else op,
            f"{numbers:,}",
            f"{product.ring_bits} to {product.output_bits}",
            str(product.digits),
            f"{math.log2(product.params.modulus):.0f}",
            f"{known:.2g}",
            f"{own:g}",
            f"{nats:.2g}",
            f"{times * plan.wear:.1e}" if isinstance(plan, PairPlan) else "",
        )
    yield run, "all", "", "", "", "", "", "", f"{total:.2g}", f"{wear_of(stages):.1e}"


def section() -> str:
    found = outline(parse("SM+ScFuFFN"), SIZES["gpt2-small"])
    programs = found.programs
    graphs = {
        f"prefill, {LENGTH}": programs.prefill(LENGTH, leave_state=True).graph,
        "next token": programs.decode(LENGTH - 1).graph,
    }
    lines = table(HEADER, [row for run, graph in graphs.items() for row in rows(run, graph, found.plan)], words=2)
    bears = (
        f"A key bears {hints.KEY_ROOM * hints.SERVER_NOISE**2:.3f} squares of a step of hints; the effective deviation "
        f"is then {hints.EFFECTIVE:.2f}, of {hints.DEVIATION:g} at first."
    )
    return "\n".join([*lines, "", bears])


Product = tuple[str, LinearPlan | PairPlan, float]
"""What it is of, its plan, and the deviation of known noise, in steps."""


def _products(stage: Stage) -> list[Product]:
    plan = group_plan(*stage.groups)
    if isinstance(plan, StackedPlan):
        return [(stage.op, pair, _known_of_shares(pair)) for pair in plan.plans]
    if isinstance(plan, GroupedPlan):
        order = f"{stage.op}, order", plan.order, share_noise(plan.order.product).known
        return [*2 * plan.half * [_of_weights(stage, plan.product)], order]
    if isinstance(plan, LinearPlan | EmbeddingPlan):
        return [_of_weights(stage, plan.product if isinstance(plan, EmbeddingPlan) else plan)]
    return []


def _of_weights(stage: Stage, plan: LinearPlan) -> Product:
    return stage.op, plan, linear.known_at_most(plan.product, WEIGHTS.bits - 2)


def _known_of_shares(plan: PairPlan) -> float:
    return max(share_noise(p, nonzero=p.inner // plan.joined).known for p in plan.products)


def _numbers(plan: LinearPlan | PairPlan) -> int:
    return plan.hints if isinstance(plan, PairPlan) else hints.hints(plan.product)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--out", type=Path, required=True)
    write_section(arguments.parse_args().out, NAME, section())
