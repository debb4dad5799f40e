"""Whether every step of a session has room for the noise of its products, and which moduli give it that.

How much noise a product with weights adds depends on how it is cut into tiles, and with that on how many rows it has: 1
to the context in most layers, one for each prompt in the last. So each is planned here for every number of rows, by the
functions that plan a run, and its noise is bounded from the weights themselves, as they are encoded. A larger modulus
adds less; which products take one is part of the ring plan, so both parties know it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from aero.engines.planning.output import output_costs
from aero.engines.planning.stages import Stage, group_label
from aero.engines.planning.step_plans import WeightPlan, bare_states, checked_schedule, group_plan, weight_plan
from aero.engines.planning.steps import WEIGHTED, Group, has_row_gains
from aero.engines.reveal import LOGITS, TOKEN, Reveal
from aero.engines.two_party.weight_store import WeightStore, linear_of
from aero.graph import Graph, Programs
from aero.graph.ring_plan import RingPlan
from aero.kernels import native
from aero.kernels.lattice_noise import NoRoomError
from aero.kernels.rlwe import Params
from aero.mpc.protocols.linear import PARAMS

HELP = "use fewer fractional bits, or train with smaller weights and activations"


def with_room(programs: Programs, plan: RingPlan, outputs: int) -> RingPlan:
    """The plan with the smallest moduli that leave room in every step of a session, of up to so many outputs, whatever
    is revealed. NoRoomError, naming the product, where none does; ValueError, naming the node, where an operation has
    no protocol in these formats."""
    moduli: dict[str, int] = {}
    usual = replace(plan, moduli={})
    for product in _products(programs, usual, outputs, (LOGITS, TOKEN), WeightStore(usual, 0)):
        bits = product.modulus_bits()
        if bits:
            moduli |= {step.node.name: max(bits, moduli.get(step.node.name, 0)) for step in product.group}
    chosen = replace(plan, moduli=moduli)
    if moduli:
        for reveal in (LOGITS, TOKEN):
            check_room(programs, chosen, outputs, reveal)
    return chosen


def check_room(programs: Programs, plan: RingPlan, outputs: int, reveal: Reveal, max_bytes: int = 0) -> WeightStore:
    """NoRoomError or ValueError, as above, unless every step of a session, of up to so many outputs, can be computed.
    The weights, encoded for all of them; max_bytes: for the transforms that steps with a single row read, as in
    `WeightStore`. A server waits for this, so some of it is done side by side, in threads that end here."""
    store, weights = WeightStore(plan, max_bytes), programs.program.weights
    [steps] = checked_schedule([programs.prefill(1, leave_state=True).graph], plan, reveal=reveal).steps
    cores = min(os.cpu_count() or 1, native.MAX_THREADS)
    with native.use_threads(cores), ThreadPoolExecutor(cores) as pool:
        matrices = (step for step in steps if step.node.op in WEIGHTED and not has_row_gains(step))
        encoding = [pool.submit(store.encode, step, weights) for step in matrices]
        products = list(_products(programs, plan, outputs, (reveal,), store))
        for encoded in encoding:
            encoded.result()

        def transform() -> None:
            for product in products:
                product.transform()

        transforming = pool.submit(transform)
        for product in products:
            product.require_room()
        transforming.result()
    return store


@dataclass
class _Product:
    """Steps that are multiplied by weights together, with 1 to `rows` rows. weights: of the program."""

    group: Group
    rows: int
    store: WeightStore
    weights: Mapping[str, np.ndarray]

    def modulus_bits(self) -> int:
        """0 where the usual modulus has room; else the bits of the smallest that has."""
        if self._short(0) is None:
            return 0
        for params in PARAMS:
            if self._short(params.modulus.bit_length()) is None:
                return params.modulus.bit_length()
        self.require_room(PARAMS[-1].modulus.bit_length())
        raise AssertionError("unreachable: nothing has room")

    def require_room(self, modulus_bits: int | None = None) -> None:
        found = self._short(modulus_bits)
        if found is not None:
            rows, noise, allowed, params = found
            raise NoRoomError(
                f"{group_label(self.group)}: with {rows} row{'s' * (rows > 1)} the noise may reach {noise:.3g} steps "
                f"of the last place, and {allowed:.3g} are allowed, at a modulus of {params.modulus.bit_length()} "
                f"bits; {HELP}"
            )

    def _short(self, modulus_bits: int | None) -> tuple[int, float, float, Params] | None:
        """Of the number of rows that has too much noise, and the most of those: rows, noise, what is allowed, and the
        parameters. None where all have room. modulus_bits: by default the plan's."""
        worst: tuple[int, float, float, Params] | None = None
        for rows in range(1, self.rows + 1):
            planned = self._planned(rows, modulus_bits)
            plan, noise = linear_of(planned), self.store.noise(self.group, planned, self.weights).total
            if not noise <= plan.max_error and (worst is None or noise > worst[1]):
                worst = rows, noise, plan.max_error, plan.product.params
        return worst

    def transform(self) -> None:
        for rows in {1, self.rows}:
            self.store.transform(self.group, self._planned(rows, None), self.weights)

    def _planned(self, rows: int, modulus_bits: int | None) -> WeightPlan:
        """As a run of so many rows plans it."""
        steps = tuple(
            replace(
                step,
                input_shapes=((rows, *step.input_shapes[0][1:]),),
                modulus_bits=step.modulus_bits if modulus_bits is None else modulus_bits,
            )
            for step in self.group
        )
        return weight_plan(steps)


def _products(
    programs: Programs, plan: RingPlan, outputs: int, reveals: Sequence[Reveal], store: WeightStore
) -> Iterator[_Product]:
    """Every product with weights of a session, in each pair of rings that it may take. Whatever else there is, is
    planned as well: ValueError, naming the node, where that cannot be."""
    found: dict[tuple[str, int, int], _Product] = {}
    weights = programs.program.weights
    for reveal in reveals:
        for graphs in _batches(programs):
            states = [bare_states(programs.prefill(1, leave_state=True).graph) for _ in graphs]
            schedule = checked_schedule(graphs, plan, states, reveal)
            for stage in schedule.stages:
                _check_planned(stage)
                group = stage.groups[0]
                first = group[0]
                if first.node.op not in WEIGHTED or has_row_gains(first):
                    continue
                key = group_label(group), first.ring_bits if first.factor else 0, first.output.bits
                product = found.setdefault(key, _Product(group, 0, store, weights))
                whole = any(g.input_shapes[0][0] > 1 for g in stage.steps)
                product.rows = max(product.rows, programs.context if whole else min(outputs, programs.context))
            rows, columns = len(graphs), graphs[0].shapes[graphs[0].output][1]
            output_costs((rows, columns), schedule.outputs[0].output, reveal, columns)
    yield from found.values()


def _batches(programs: Programs) -> Iterator[list[Graph]]:
    """Of each kind of step, and of kinds together: with them each value is held in every ring that it may have. Rings
    do not depend on how many rows there are, apart from those of scores, which have no weights."""
    longest = programs.context
    first, whole = (programs.prefill(n, leave_state=True).graph for n in (1, longest))
    yield from ([first], [whole], [first, first], *([[first, whole]] if not whole.causal else []))
    if longest > 1 and whole.causal:
        short, late = programs.decode(1).graph, programs.decode(longest - 1).graph
        yield from ([short], [late], [first, short], [whole, late])
        several = programs.decode(1, longest - 1).graph
        yield from ([several], [several, short], [first, several])


def _check_planned(stage: Stage) -> None:
    try:
        group_plan(*stage.groups)
    except ValueError as error:
        raise type(error)(f"{stage.label}: {error}") from None
