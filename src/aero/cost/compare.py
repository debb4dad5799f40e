"""What is compared: a graph with its name and, of a trained run, its perplexity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aero.graph import Graph, Programs
from aero.graph.ring_plan import RingPlan

TRAINED_LIKE = "of random weights of trained-like scale"


@dataclass(frozen=True)
class Subject:
    """name: what tables and plots call it; notation: in the papers' names; perplexity: None where not trained;
    plan: number formats, None where none were chosen yet; formats: which they are. programs: those of a session, None
    of a single graph."""

    name: str
    graph: Graph
    notation: str | None = None
    perplexity: float | None = None
    plan: RingPlan | None = None
    programs: Programs | None = None
    formats: str = "of usual sizes"

    @property
    def assumed(self) -> bool:
        """Whether no weights are there from which formats and windows of scores follow."""
        return self.formats == TRAINED_LIKE

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "notation": self.notation,
            "context": self.graph.length,
            "perplexity": self.perplexity,
            "graph_digest": self.graph.digest,
            "formats": self.formats,
        }


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices, by rising cost, of the points (cost, loss) to which no other is equal or better in both."""
    front: list[int] = []
    for index in sorted(range(len(points)), key=lambda i: points[i]):
        if not front or points[index][1] < points[front[-1]][1]:
            front.append(index)
    return front
