"""The immutable graph: nodes in order of computation, each naming the values and the server's weights that it reads."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import InitVar, dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Protocol

import numpy as np

from aero.graph.heads import CAUSAL
from aero.graph.ops import OPS, Attrs, Shape

INPUT = "ids"  # the client's token ids, shape [length]

FORMAT_VERSION = 2


@dataclass(frozen=True)
class Node:
    """One operation; its name is the name of the value that it computes.

    name: unique in the graph, dotted and readable ("blocks.0.attention.scores"); reports use it as the label.
    op: a key of `aero.graph.ops.OPS`.
    inputs: names of earlier nodes, of states, or "ids".
    weights: names of the server's tensors, in the order that the operation states.
    attrs: the operation's public constants.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    weights: tuple[str, ...] = ()
    attrs: Attrs = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.op not in OPS:
            raise ValueError(f"node {self.name!r}: unknown operation {self.op!r}; known: {', '.join(OPS)}")
        sheet = OPS[self.op]
        if len(self.inputs) != sheet.inputs:
            raise ValueError(f"node {self.name!r}: {self.op} reads {sheet.inputs} values, not {len(self.inputs)}")
        if not sheet.min_weights <= len(self.weights) <= len(sheet.weights):
            raise ValueError(f"node {self.name!r}: {self.op} takes weights {sheet.weights}, not {self.weights}")
        if set(self.attrs) - set(sheet.optional) != set(sheet.attrs):
            raise ValueError(f"node {self.name!r}: {self.op} has attributes {set(sheet.attrs)}, not {set(self.attrs)}")
        kinds = {**sheet.attrs, **sheet.optional}
        attrs = {key: kinds[key](value) for key, value in self.attrs.items()}
        object.__setattr__(self, "attrs", MappingProxyType(attrs))

    @property
    def added(self) -> tuple[str, ...]:
        """The weights that are added to the value; those before are factors, or a table."""
        return self.weights[OPS[self.op].factors :]

    def replace(self, **changes: object) -> Node:
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Graph:
    """What is computed, without the weights: public, and equal at both parties.

    length: number of token ids that it reads.
    nodes: in an order in which every value is computed before it is read.
    weight_shapes: shape of every tensor that the server brings.
    output: name of the value that the client learns.
    state_in: shapes of the values, by name, that an earlier run left and this one reads.
    state_out: which value of this run is left under which name for the next.

    State is how keys and values of earlier tokens reach the next one. It never leaves an engine: each party keeps its
    own shares, from one run to the next; a run replaces what the last one left.
    """

    length: int
    nodes: tuple[Node, ...]
    weight_shapes: Mapping[str, Shape]
    output: str
    state_in: Mapping[str, Shape] = dataclasses.field(default_factory=dict)
    state_out: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError(f"a graph reads at least one token, not {self.length}")
        shapes = {name: tuple(int(n) for n in shape) for name, shape in self.weight_shapes.items()}
        object.__setattr__(self, "nodes", tuple(self.nodes))
        object.__setattr__(self, "weight_shapes", MappingProxyType(shapes))
        states = {name: tuple(int(n) for n in shape) for name, shape in self.state_in.items()}
        if INPUT in states:
            raise ValueError(f"a state cannot be named {INPUT!r}: that is the input")
        object.__setattr__(self, "state_in", MappingProxyType(states))
        object.__setattr__(self, "state_out", MappingProxyType(dict(self.state_out)))
        for name in (self.output, *self.state_out.values()):
            if name not in self.shapes or name == INPUT:
                raise ValueError(f"the output {name!r} is not a value of this graph")
        unused = set(shapes) - {name for node in self.nodes for name in node.weights}
        if unused:
            raise ValueError(f"no node reads the weights {sorted(unused)}; drop them")

    @cached_property
    def shapes(self) -> Mapping[str, Shape]:
        """Shape of every value, by name."""
        shapes: dict[str, Shape] = {INPUT: (self.length,), **self.state_in}
        for node in self.nodes:
            if node.name in shapes:
                raise ValueError(f"two values are named {node.name!r}")
            for name in node.inputs:
                if name not in shapes:
                    raise ValueError(f"node {node.name!r} reads {name!r}, which is not computed before it")
            for name in node.weights:
                if name not in self.weight_shapes:
                    raise ValueError(f"node {node.name!r} reads the weight {name!r}, which has no shape")
            try:
                shapes[node.name] = OPS[node.op].shape(
                    [shapes[i] for i in node.inputs], [self.weight_shapes[w] for w in node.weights], node.attrs
                )
            except ValueError as error:
                raise ValueError(f"node {node.name!r}: {error}") from None
        return MappingProxyType(shapes)

    @cached_property
    def by_name(self) -> Mapping[str, Node]:
        return MappingProxyType({node.name: node for node in self.nodes})

    @cached_property
    def consumers(self) -> Mapping[str, tuple[Node, ...]]:
        """The nodes that read each value (the client, who reads the output, is not among them)."""
        readers: dict[str, list[Node]] = {name: [] for name in self.shapes}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                readers[name].append(node)
        return MappingProxyType({name: tuple(nodes) for name, nodes in readers.items()})

    @cached_property
    def kept(self) -> frozenset[str]:
        """The values that are read after the run: the output, and the state that is left."""
        return frozenset((self.output, *self.state_out.values()))

    @cached_property
    def causal(self) -> bool:
        """Whether no position sees a later one."""
        return all(node.attrs.get("mask", CAUSAL) == CAUSAL for node in self.nodes)

    @cached_property
    def vocab_size(self) -> int:
        """Rows of the table in which token ids are looked up. ValueError where there is none, or several."""
        tables = {self.weight_shapes[node.weights[0]][0] for node in self.nodes if INPUT in node.inputs}
        if len(tables) != 1:
            raise ValueError(f"a graph looks token ids up in tables of one size, not of {sorted(tables)}")
        return tables.pop()

    def to_json(self) -> dict[str, object]:
        """The structure as plain data; `aero.graph.serialize` reads it back."""
        state = {
            "state_in": {name: list(shape) for name, shape in sorted(self.state_in.items())},
            "state_out": dict(sorted(self.state_out.items())),
        }
        return {
            "format_version": FORMAT_VERSION,
            "length": self.length,
            "nodes": [
                {
                    "name": n.name,
                    "op": n.op,
                    "inputs": list(n.inputs),
                    "weights": list(n.weights),
                    "attrs": dict(n.attrs),
                }
                for n in self.nodes
            ],
            "weight_shapes": {name: list(shape) for name, shape in sorted(self.weight_shapes.items())},
            "output": self.output,
            **{key: value for key, value in state.items() if value},
        }

    def dumps(self) -> str:
        """The structure as canonical JSON text: equal graphs give equal texts."""
        return json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical structure, a name for what is computed."""
        return hashlib.sha256(self.dumps().encode()).hexdigest()


@dataclass(frozen=True)
class Program:
    """A graph together with its weights: what the server holds. Weights are float64 and never altered in place.

    checked: weights of another program, already known to be finite.
    """

    graph: Graph
    weights: Mapping[str, np.ndarray]
    checked: InitVar[Mapping[str, np.ndarray] | None] = None

    def __post_init__(self, checked: Mapping[str, np.ndarray] | None) -> None:
        weights: dict[str, np.ndarray] = {}
        for name, shape in self.graph.weight_shapes.items():
            if name not in self.weights:
                raise ValueError(f"the weight {name!r} of the graph is missing")
            array = np.asarray(self.weights[name], dtype=np.float64)
            if array.shape != shape:
                raise ValueError(f"the weight {name!r} has shape {array.shape}, the graph states {shape}")
            if checked is None or checked.get(name) is not array:
                require_finite(name, array)
            if array.flags.writeable:
                array = array.view()
                array.flags.writeable = False
            weights[name] = array
        object.__setattr__(self, "weights", MappingProxyType(weights))

    @classmethod
    def of(
        cls,
        length: int,
        nodes: Iterable[Node],
        weights: Mapping[str, np.ndarray],
        output: str,
        *,
        state_in: Mapping[str, Shape] | None = None,
        state_out: Mapping[str, str] | None = None,
        checked: Mapping[str, np.ndarray] | None = None,
    ) -> Program:
        """A program from nodes and weights; keeps only what the output and the state need."""
        state_out = dict(state_out or {})
        nodes = live_nodes(tuple(nodes), (output, *state_out.values()))
        used = {name for node in nodes for name in node.weights}
        kept = {name: np.asarray(array, dtype=np.float64) for name, array in weights.items() if name in used}
        missing = used - set(kept)
        if missing:
            raise ValueError(f"no weights named {sorted(missing)} were given")
        read = {name for node in nodes for name in node.inputs}
        states = {name: shape for name, shape in (state_in or {}).items() if name in read}
        shapes = {name: array.shape for name, array in kept.items()}
        return cls(Graph(length, nodes, shapes, output, states, state_out), kept, checked)


def require_finite(name: str, array: np.ndarray) -> None:
    """ValueError for a weight, or a part of it, with which nothing can be computed."""
    if not np.isfinite(array).all():
        raise ValueError(f"the weight {name!r} holds NaN or infinity; the checkpoint is not usable")


class Programs(Protocol):
    """A compiled model: its program for each step of a session. ValueError for what does not fit the context.

    context: most tokens of a prompt and its answer. program: the logits of every position of the context.
    """

    @property
    def context(self) -> int: ...

    @property
    def program(self) -> Program: ...

    def prefill(self, length: int, *, leave_state: bool = False) -> Program:
        """The logits [1, V] after `length` tokens. leave_state: their keys and values stay in the engine."""

    def decode(self, past: int, length: int = 1, outputs: int = 1) -> Program:
        """The logits [outputs, V] after each of the last of `length` tokens that follow `past` others, from the state
        that these left."""


def live_nodes(nodes: tuple[Node, ...], outputs: Iterable[str]) -> tuple[Node, ...]:
    """The nodes that the outputs depend on, in their order."""
    needed = set(outputs)
    for node in reversed(nodes):
        if node.name in needed:
            needed.update(node.inputs)
    return tuple(node for node in nodes if node.name in needed)
