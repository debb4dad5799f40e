"""Editing a program: a pass collects its changes here and gets a new, checked, program back."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from aero.graph import Graph, Node, Program


class Rewrite:
    """A mutable copy of a program's nodes and weights. Arrays are replaced, never written to."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.nodes: list[Node] = list(program.graph.nodes)
        self.weights: dict[str, np.ndarray] = dict(program.weights)
        self.output = program.graph.output
        self.state_out = dict(program.graph.state_out)
        self.changed = False

    def replace(self, name: str, *nodes: Node) -> None:
        """Put nodes in the place of the one of this name."""
        index = next(i for i, node in enumerate(self.nodes) if node.name == name)
        self.nodes[index : index + 1] = nodes
        self.changed = True

    def insert_after(self, name: str, node: Node) -> None:
        """Put a node right after the one of this name; in front, where no node has it (a state)."""
        index = next((i for i, n in enumerate(self.nodes) if n.name == name), -1)
        self.nodes.insert(index + 1, node)
        self.changed = True

    def read_instead(self, old: str, new: str) -> None:
        """Whoever reads the value `old` reads `new`."""
        self.nodes = [
            node.replace(inputs=tuple(new if i == old else i for i in node.inputs)) if old in node.inputs else node
            for node in self.nodes
        ]
        self.output = new if self.output == old else self.output
        self.state_out = {name: new if value == old else value for name, value in self.state_out.items()}
        self.changed = True

    def new_name(self, name: str) -> str:
        """This name, or one like it that no node has."""
        taken = {node.name for node in self.nodes}
        while name in taken:
            name += "+"
        return name

    def own_weight(self, node: str, role: str, array: np.ndarray) -> str:
        """Store a weight that this node alone reads; returns its name."""
        name = f"{node}.{role}"
        self.weights[name] = array
        return name

    def linear(self, name: str, source: str, w: np.ndarray, b: np.ndarray | None = None) -> Node:
        """A new `linear` node with weights of its own; without a bias where it is zero."""
        weights = [self.own_weight(name, "w", w)]
        if b is not None and np.any(b):
            weights.append(self.own_weight(name, "b", b))
        return Node(name, "linear", (source,), tuple(weights))

    def done(self) -> Program:
        """The rewritten program, without what nothing reads any more; the given one when nothing changed."""
        if not self.changed:
            return self.program
        graph = self.program.graph
        return Program.of(
            graph.length,
            self.nodes,
            self.weights,
            self.output,
            state_in=graph.state_in,
            state_out=self.state_out,
            checked=self.program.weights,
        )


def factor_of(program: Program, node: Node) -> np.ndarray:
    """What a `scale` or `gain` multiplies by."""
    return np.float64(node.attrs["factor"]) if node.op == "scale" else program.weights[node.weights[0]]  # type: ignore[return-value]


def matrix_and_bias(program: Program, linear: Node) -> tuple[np.ndarray, np.ndarray]:
    """W [k, m] and b [m] of a `linear` node; zeros where it has no bias."""
    w = program.weights[linear.weights[0]]
    return w, program.weights[linear.weights[1]] if len(linear.weights) == 2 else np.zeros(w.shape[1])


def sole_reader(graph: Graph, value: str) -> Node | None:
    """The one node that reads a value, or None where there are several, or it is kept."""
    readers = graph.consumers[value]
    return readers[0] if len(readers) == 1 and value not in graph.kept else None


def until_done(rewrite_one: Callable[[Program], Program], program: Program) -> Program:
    """Repeat a rewrite that returns its very argument when it finds nothing to do."""
    while (smaller := rewrite_one(program)) is not program:
        program = smaller
    return program
