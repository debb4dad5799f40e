"""The profile "two-party": what our own engine's protocols declare for a graph, added up as a run would send it.

Bytes, messages and rounds are exact for the ring plan that is given. Without one, as for a graph without weights,
`typical_plan` stands in: rings of a trained model's usual sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from aero.cost.algebra import Price, total
from aero.cost.estimate import seconds_on
from aero.cost.machine import Computer
from aero.cost.profile import Profile
from aero.engines.planning.declared import Declared, DeclaredRun, declared_run
from aero.engines.planning.step_plans import OTS, OUTPUT
from aero.engines.reveal import LOGITS, Reveal
from aero.graph import OPS, Graph, Node
from aero.graph.ring_plan import Format, RingPlan, ScoreWindow, state_source, whole_weight
from aero.mpc.cost import ProtocolCost
from aero.mpc.party import Role
from aero.wire.network import Network

NAME = "two-party"

ACTIVATIONS, SCORES, PROBABILITIES = Format(22, 16), Format(22, 14), Format(20, 18)
WEIGHTS = Format(17, 16)


def typical_plan(graph: Graph) -> RingPlan:
    """Formats of usual sizes: activations of up to 32, weights of up to 1."""
    formats = {"activation": ACTIVATIONS, "score": SCORES, "probability": PROBABILITIES}
    values = {node.name: formats[OPS[node.op].precision] for node in graph.nodes}
    values |= {state_source(name): ACTIVATIONS for name in graph.state_in}
    return RingPlan(values, dict.fromkeys(map(whole_weight, graph.weight_shapes), WEIGHTS), {})


class TwoPartyProfile(Profile):
    """Of one graph. plan: number formats; by default `typical_plan`. reveal: what the client learns of the output.
    on: what computing takes; not known without. ValueError, naming the node, for an operation without a protocol."""

    name = NAME
    title = "AERO's own two-party protocols, as they declare themselves"

    def __init__(
        self, graph: Graph, plan: RingPlan | None = None, reveal: Reveal = LOGITS, on: Computer | None = None
    ) -> None:
        found = declared_run(graph, typical_plan(graph) if plan is None else plan, reveal=reveal)
        self.source = "declarations beside the protocols"
        self.notes = (
            "Refills of OTs are counted with the step before which they come.",
            f"Revealing {reveal.described}, counted with the last step: {_opening(found)}.",
        )
        if on is not None:
            self.notes += (f"Computing {on.described}; encoding of the weights is not in it.",)
        self.set_up = set_up_price(found, on)
        self._graph = graph
        self._prices: dict[tuple[str, ...], Price] = {}
        waiting: list[Price] = []  # refills of OTs that came before a step
        for line in found.lines:
            cost = _line_cost(line, on)
            if line.op == OTS:
                waiting.append(cost)
            elif line.op == OUTPUT:
                last = list(self._prices)[-1]
                self._prices[last] = total([self._prices[last], *waiting, cost])
                waiting = []
            else:
                self._prices[tuple(line.label.split(" "))] = total([*waiting, cost])
                waiting = []

    def price(self, graph: Graph, nodes: Sequence[Node]) -> Price:
        if graph.digest != self._graph.digest:
            raise ValueError("this profile was made for another graph")
        return self._prices.get(tuple(node.name for node in nodes), _NOTHING)

    def steps(self, graph: Graph) -> list[tuple[Node, ...]]:
        first = {names[0]: names for names in self._prices}
        later = {name for names in self._prices for name in names[1:]}
        groups = [first.get(node.name, (node.name,)) for node in graph.nodes if node.name not in later]
        return [tuple(graph.by_name[name] for name in names) for names in groups]


def windowed(graph: Graph, plan: RingPlan) -> RingPlan:
    """The plan in which the maxima of every head's rows are known to lie close together, however they do in it."""
    windows = [
        ScoreWindow(node.name, head, (-1.0, 1.0), (-1.0, 1.0), -1.0)
        for node in graph.nodes
        if node.op == "softmax"
        for head in range(graph.shapes[node.name][0])
    ]
    return replace(plan, windows=tuple(windows))


def in_windows(graph: Graph, plan: RingPlan, reveal: Reveal = LOGITS) -> DeclaredRun:
    """A run of the graph with a `windowed` plan."""
    return declared_run(graph, windowed(graph, plan), reveal=reveal)


def run_cost(run: DeclaredRun, on: Computer | None = None) -> Price:
    """Of a whole run, set-up apart."""
    return total(_line_cost(line, on) for line in run.lines)


def set_up_price(run: DeclaredRun, on: Computer | None = None) -> Price:
    """What travels before a run."""
    return _priced(run.set_up, run.set_up_rounds, on)


def _line_cost(line: Declared, on: Computer | None) -> Price:
    """OTs count where they are used, not where they are made."""
    cost = _priced(line.cost, line.rounds, on)
    return replace(cost, cots=0) if line.op == OTS else cost


def _priced(cost: ProtocolCost, rounds: int, on: Computer | None) -> Price:
    seconds = None if on is None else on.computing(cost).wall
    return replace(Price.of_protocol(cost), rounds=float(rounds), compute_seconds=seconds)


def predicted(run: DeclaredRun, on: Computer, network: Network) -> dict[str, Any]:
    """Of a whole run, set-up apart, to stand beside a measurement: seconds on the network, processor seconds of each
    party, bytes each way, rounds."""
    price, works = run_cost(run, on), [on.computing(line.cost) for line in run.lines]
    return {
        "seconds": seconds_on(network, price).total,
        "cpu_seconds": {role.word: sum(getattr(work, role.word) for work in works) for role in Role},
        "bytes_client_to_server": price.bytes_client_to_server,
        "bytes_server_to_client": price.bytes_server_to_client,
        "rounds": run.rounds,
    }


def _opening(run: DeclaredRun) -> str:
    lines = [line for line in run.lines if line.op == OUTPUT]
    return (
        f"{sum(line.cost.total_bytes for line in lines) / 1e6:,.2f} MB in {sum(line.rounds for line in lines)} rounds"
    )


_NOTHING = Price(0, 0, rounds=0, messages=0, cots=0, compute_seconds=0)
