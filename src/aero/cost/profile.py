"""Profiles: what each operation costs with one engine, as measured, as published, or as its protocols declare.

A profile that is a table of formulas is a JSON file in `aero/cost/profiles`; `aero bench calibrate` writes one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

from aero.cost.algebra import Declaration, Price
from aero.cost.named import names, path_of
from aero.cost.quantities import quantities
from aero.files.reading import interpreting, read_json, typed
from aero.graph import Graph, Node

FORMAT_VERSION = 1
_FOLDER = Path(__file__).parent / "profiles"


class Profile(ABC):
    """Prices for one engine.

    name: how the command line calls it; title, source: what it is and where its numbers come from;
    set_up: cost of connecting, once for all runs; notes: what a reader must know.
    """

    name: str
    title: str
    source: str
    set_up: Price
    notes: tuple[str, ...] = ()

    @abstractmethod
    def price(self, graph: Graph, nodes: Sequence[Node]) -> Price:
        """The cost of nodes that this engine computes together. ValueError for an operation that it cannot price."""

    def steps(self, graph: Graph) -> list[tuple[Node, ...]]:
        """The graph's nodes as the engine groups them, in order; by default each alone."""
        return [(node,) for node in graph.nodes]


@dataclass(frozen=True)
class TableProfile(Profile):
    """A declaration for each operation.

    joins_linears: the engine computes all linear layers of a value as a single product.
    only_with: of each of these sets the graph has an operation, or the source says nothing of such graphs.
    machine, version: where and with which aero it was measured; None for published numbers.
    notes: what a reader must know: what was fitted, what is not identified, the largest residual.
    """

    name: str
    title: str
    source: str
    ops: Mapping[str, Declaration]
    joins_linears: bool = False
    only_with: tuple[tuple[str, ...], ...] = ()
    set_up: Price = field(default_factory=Price)
    machine: str | None = None
    version: str | None = None
    notes: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.name or not self.source:
            raise ValueError("a profile names itself and its source")
        object.__setattr__(self, "ops", MappingProxyType(dict(self.ops)))

    def price(self, graph: Graph, nodes: Sequence[Node]) -> Price:
        (op,) = {node.op for node in nodes}
        present = {node.op for node in graph.nodes}
        if missing := [alternatives for alternatives in self.only_with if not present & set(alternatives)]:
            needed = ", ".join(" or ".join(alternatives) for alternatives in missing)
            raise ValueError(f"the profile {self.name!r} knows nothing of models without {needed}")
        if op not in self.ops:
            raise ValueError(f"the profile {self.name!r} has no price for {op!r} (node {nodes[0].name!r})")
        return self.ops[op].at(quantities(graph, nodes))

    def steps(self, graph: Graph) -> list[tuple[Node, ...]]:
        if not self.joins_linears:
            return super().steps(graph)
        found: list[tuple[Node, ...]] = []
        done: set[str] = set()
        for node in graph.nodes:
            if node.name in done:
                continue
            group: tuple[Node, ...] = (node,)
            if node.op == "linear":
                group = tuple(n for n in graph.consumers[node.inputs[0]] if n.op == "linear")
            found.append(group)
            done.update(n.name for n in group)
        return found

    def to_json(self) -> dict[str, Any]:
        return {
            "format_version": FORMAT_VERSION,
            "name": self.name,
            "title": self.title,
            "source": self.source,
            "machine": self.machine,
            "version": self.version,
            "notes": list(self.notes),
            "joins_linears": self.joins_linears,
            "only_with": list(self.only_with),
            "set_up": {key: value for key, value in vars(self.set_up).items() if value is not None},
            "ops": {op: declaration.to_json() for op, declaration in self.ops.items()},
            "details": dict(self.details),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TableProfile:
        if not isinstance(data, Mapping) or data.get("format_version") != FORMAT_VERSION:
            raise ValueError(f"not a cost profile of format {FORMAT_VERSION}; measure it again: aero bench calibrate")
        with interpreting("the cost profile"):
            given = {name: data[name] for name in _KEYS}
            found = typed(_File, given)
            return cls(
                found.name,
                found.title,
                found.source,
                {op: Declaration.from_json(formulas) for op, formulas in found.ops.items()},
                found.joins_linears,
                found.only_with,
                found.set_up,
                found.machine,
                found.version,
                found.notes,
                found.details,
            )


@dataclass(frozen=True)
class _File:
    """The keys of a profile's file, beside its format's version, and their types."""

    name: str
    title: str
    source: str
    ops: dict[str, dict[str, dict[str, float]]]
    joins_linears: bool
    only_with: tuple[tuple[str, ...], ...]
    set_up: Price
    machine: str | None
    version: str | None
    notes: tuple[str, ...]
    details: dict[str, Any]


_KEYS = tuple(f.name for f in fields(_File))


def profile_names() -> list[str]:
    """The profiles that come with aero."""
    return names(_FOLDER)


def load_profile(name_or_path: str) -> TableProfile:
    """A profile by name, or from a JSON file that `aero bench calibrate` wrote. ValueError for neither."""
    return TableProfile.from_json(read_json(path_of(name_or_path, _FOLDER, "cost profile", "two-party")))
