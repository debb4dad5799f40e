"""Editing a program: a pass collects its changes here and gets a new, checked, program back."""

from __future__ import annotations

import numpy as np

from aero.graph import Node, Program


class Rewrite:
    """A mutable copy of a program's nodes and weights. Arrays are replaced, never written to."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.nodes: list[Node] = list(program.graph.nodes)
        self.weights: dict[str, np.ndarray] = dict(program.weights)
        self.output = program.graph.output
        self.changed = False

    def replace(self, name: str, *nodes: Node) -> None:
        """Put nodes in the place of the one of this name."""
        index = next(i for i, node in enumerate(self.nodes) if node.name == name)
        self.nodes[index : index + 1] = nodes
        self.changed = True

    def read_instead(self, old: str, new: str) -> None:
        """Whoever reads the value `old` reads `new`."""
        self.nodes = [
            node.replace(inputs=tuple(new if i == old else i for i in node.inputs)) if old in node.inputs else node
            for node in self.nodes
        ]
        self.output = new if self.output == old else self.output
        self.changed = True

    def own_weight(self, node: str, role: str, array: np.ndarray) -> str:
        """Store a weight that this node alone reads; returns its name."""
        name = f"{node}.{role}"
        self.weights[name] = array
        return name

    def done(self) -> Program:
        """The rewritten program, without what nothing reads any more; the given one when nothing changed."""
        if not self.changed:
            return self.program
        return Program.of(self.program.graph.length, self.nodes, self.weights, self.output)


def factor_of(program: Program, node: Node) -> np.ndarray:
    """What a `scale` or `gain` multiplies by."""
    return np.float64(node.attrs["factor"]) if node.op == "scale" else program.weights[node.weights[0]]  # type: ignore[return-value]
