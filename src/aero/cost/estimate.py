"""The cost of a graph under a profile: each step's price, and the sums."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from aero.cost.algebra import Price, total
from aero.cost.profile import Profile
from aero.graph import Graph
from aero.graph.count import multiplications, nonlinear_elements
from aero.wire.network import Network


@dataclass(frozen=True)
class Seconds:
    """A run's time on a network, nothing overlapping: computing, sending, waiting. None: not known."""

    computing: float | None
    sending: float | None
    waiting: float | None

    @property
    def total(self) -> float | None:
        parts = (self.computing, self.sending, self.waiting)
        return None if None in parts else self.at_least

    @property
    def at_least(self) -> float:
        """The sum of what is known."""
        return sum(part for part in (self.computing, self.sending, self.waiting) if part is not None)


def seconds_on(network: Network, cost: Price) -> Seconds:
    """Both directions take turns on the line, as in a protocol where each message answers one; `network` in bits."""
    sending = None if cost.bytes_both_ways is None else cost.bytes_both_ways * 8 / network.bits_per_second
    waiting = None if cost.rounds is None else cost.rounds * network.round_trip_seconds / 2
    if network.round_trip_seconds == 0:
        waiting = 0.0
    return Seconds(cost.compute_seconds, sending, waiting)


@dataclass(frozen=True)
class Line:
    """One step: label, operation and price; multiplications and nonlinear elements as `aero.graph.count` counts."""

    label: str
    op: str
    cost: Price
    multiplications: int
    nonlinear_elements: int


@dataclass(frozen=True)
class Estimate:
    """The lines of a graph in order, and what connecting costs."""

    profile: str
    length: int
    lines: tuple[Line, ...]
    set_up: Price

    @property
    def total(self) -> Price:
        """Of one run, set-up apart."""
        return total(line.cost for line in self.lines)

    @property
    def multiplications(self) -> int:
        return sum(line.multiplications for line in self.lines)

    @property
    def nonlinear_elements(self) -> int:
        return sum(line.nonlinear_elements for line in self.lines)

    def by_op(self) -> dict[str, Line]:
        """The lines of each operation added up, in order of first use; a label is then the number of steps."""
        found: dict[str, list[Line]] = {}
        for line in self.lines:
            found.setdefault(line.op, []).append(line)
        return {
            op: Line(
                str(len(lines)),
                op,
                total(line.cost for line in lines),
                sum(line.multiplications for line in lines),
                sum(line.nonlinear_elements for line in lines),
            )
            for op, lines in found.items()
        }

    def to_json(self, networks: Iterable[Network] = ()) -> dict[str, Any]:
        """Plain data. Keys of `Price` mean what they mean there; seconds are computing, sending, waiting and total."""
        networks = list(networks)
        return {
            "profile": self.profile,
            "length": self.length,
            "set_up": cost_json(self.set_up, networks),
            "total": {
                **cost_json(self.total, networks),
                "multiplications": self.multiplications,
                "nonlinear_elements": self.nonlinear_elements,
            },
            "lines": [
                {
                    "label": line.label,
                    "op": line.op,
                    **cost_json(line.cost, networks),
                    "multiplications": line.multiplications,
                    "nonlinear_elements": line.nonlinear_elements,
                }
                for line in self.lines
            ],
        }


def cost_json(cost: Price, networks: Iterable[Network]) -> dict[str, Any]:
    """Plain data: the components, and seconds on each network: computing, sending, waiting and total."""
    times = {network.name: seconds_on(network, cost) for network in networks}
    return {**vars(cost), "seconds": {name: {**vars(t), "total": t.total} for name, t in times.items()}}


def estimate(graph: Graph, profile: Profile) -> Estimate:
    """Price a graph. ValueError, naming the node, for an operation that the profile does not know."""
    lines = tuple(
        Line(
            " ".join(node.name for node in nodes),
            nodes[0].op,
            profile.price(graph, nodes),
            sum(multiplications(graph, node) for node in nodes),
            sum(nonlinear_elements(graph, node) for node in nodes),
        )
        for nodes in profile.steps(graph)
    )
    return Estimate(profile.name, graph.length, lines, profile.set_up)
