"""What runs will send, before anything is sent: every stage's declaration, and with it keys, base OTs and refills."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from aero.engines.planning.output import output_costs
from aero.engines.planning.session_keys import SessionKeys
from aero.engines.planning.stages import Stage
from aero.engines.planning.step_plans import (
    NO_STATES,
    OTS,
    OUTPUT,
    checked_schedule,
    keys_needed,
    needs_ots,
    ots_ahead,
    stage_cost,
    wear_of,
)
from aero.engines.reveal import LOGITS, Reveal
from aero.graph import Graph
from aero.graph.ring_plan import RingPlan
from aero.mpc.cost import ProtocolCost
from aero.mpc.ot.supply import SupplyModel, set_up_cost
from aero.mpc.protocols.agree import agree_cost
from aero.mpc.protocols.keys import keys_cost

AGREED = 4
"""Things that both parties compare before a graph is run: the graph, the ring plan, what is revealed, public angles."""


@dataclass(frozen=True)
class Declared:
    """One line of what a run will send. label, op: of a step, or of steps that go together; cost: its bytes, messages
    and OTs; rounds: by how many it makes the run longer."""

    label: str
    op: str
    cost: ProtocolCost
    rounds: int


@dataclass(frozen=True)
class DeclaredRun:
    """A run in a session. set_up: what travels before it, keys and base OTs as far as they are missing; set_up_rounds:
    by how many that makes the session longer."""

    set_up: ProtocolCost
    lines: tuple[Declared, ...]
    set_up_rounds: int

    @property
    def rounds(self) -> int:
        return sum(line.rounds for line in self.lines)

    def total(self, count: Callable[[ProtocolCost], int]) -> int:
        """The sum of a count of each line's cost."""
        return sum(count(line.cost) for line in self.lines)


def declared_run(
    graph: Graph,
    plan: RingPlan,
    states: Mapping[str, str] = NO_STATES,
    reveal: Reveal = LOGITS,
    vocabulary: int | None = None,
) -> DeclaredRun:
    """What a run of a graph will send, before anything is sent. states: as in `bare_pairs`; reveal: what is opened, of
    the first `vocabulary` columns, by default all."""
    return declared_batch([graph], plan, [states], reveal, vocabulary)


def declared_batch(
    graphs: Sequence[Graph],
    plan: RingPlan,
    states: Sequence[Mapping[str, str]] | None = None,
    reveal: Reveal = LOGITS,
    vocabulary: int | None = None,
) -> DeclaredRun:
    """`declared_run` for a batch of prompts, states of each."""
    return DeclaredSession(plan, reveal, vocabulary).run(graphs, states)


class DeclaredSession:
    """What runs of one session will send, one after the other: keys are exchanged and base OTs made where they are
    missing, and OTs that one run leaves serve the next. plan, reveal, vocabulary: as in `declared_run`."""

    def __init__(self, plan: RingPlan, reveal: Reveal = LOGITS, vocabulary: int | None = None) -> None:
        self._plan, self._reveal, self._vocabulary = plan, reveal, vocabulary
        self._supply, self._clock = SupplyModel(), ProtocolCost()
        self._has_ots = False
        self._keys = SessionKeys()

    def run(self, graphs: Sequence[Graph], states: Sequence[Mapping[str, str]] | None = None) -> DeclaredRun:
        """The next run, of programs that were not run together before; states as in `bare_pairs`, for each graph."""
        planned = checked_schedule(graphs, self._plan, states, self._reveal)
        rows = sum(graph.shapes[graph.output][0] for graph in graphs)
        set_up, lines = self._set_up(planned.stages), list[Declared]()
        set_up_rounds = self._tick(set_up)

        def add(label: str, op: str, cost: ProtocolCost) -> None:
            rounds = self._tick(cost)
            if cost.messages:
                lines.append(Declared(label, op, cost, rounds))

        def reserve(cost: ProtocolCost) -> None:
            add(OTS, OTS, self._supply.reserve(cost.ots_from_client, cost.ots_from_server))

        for stage, ahead in zip(planned.stages, ots_ahead(planned.stages), strict=True):
            cost = stage_cost(stage)
            reserve(ahead)
            self._supply.use(cost.ots_from_client, cost.ots_from_server)
            add(stage.label, stage.op, cost)
        columns = graphs[0].shapes[graphs[0].output][1]
        vocabulary = self._vocabulary or columns
        for cost in output_costs((rows, columns), planned.outputs[0].output, self._reveal, vocabulary):
            reserve(cost)
            self._supply.use(cost.ots_from_client, cost.ots_from_server)
            add(OUTPUT, OUTPUT, cost)
        return DeclaredRun(set_up, tuple(lines), set_up_rounds)

    def _tick(self, cost: ProtocolCost) -> int:
        """By how many rounds this makes the session longer."""
        before, self._clock = self._clock.rounds, self._clock + cost
        return self._clock.rounds - before

    def _set_up(self, stages: Sequence[Stage]) -> ProtocolCost:
        """That both have the same, the keys that are missing or worn, base OTs."""
        wear = wear_of(stages)
        self._keys.drop_worn(wear)
        self._keys.worn += wear
        missing = self._keys.add_missing(keys_needed(stages))
        cost = agree_cost(AGREED) + keys_cost(missing.client, missing.server)
        if self._has_ots or not needs_ots(stages, self._reveal):
            return cost
        self._has_ots = True
        return cost + set_up_cost()
