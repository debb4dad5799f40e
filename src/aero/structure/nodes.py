"""Collects the nodes of a graph and the shapes of their weights, under names that say where they stand."""

from __future__ import annotations

from collections.abc import Mapping

from aero.graph import Graph, Node
from aero.graph.ops import Shape
from aero.models.notation import Activation


class Nodes:
    """Every method adds some nodes and returns the name of the last value."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.shapes: dict[str, Shape] = {}

    def add(
        self, name: str, op: str, *inputs: str, weights: Mapping[str, Shape] | None = None, **attrs: float | str
    ) -> str:
        """A node whose weights are named after it."""
        shapes = {f"{name}.{role}": shape for role, shape in (weights or {}).items()}
        self.shapes |= shapes
        self.nodes.append(Node(name, op, inputs, tuple(shapes), attrs))
        return name

    def linear(self, name: str, x: str, k: int, m: int, *, bias: bool = True) -> str:
        """[.., k] -> [.., m]."""
        return self.add(name, "linear", x, weights={"w": (k, m), **({"b": (m,)} if bias else {})})

    def activation(self, name: str, x: str, kind: Activation) -> str:
        if kind == "identity":
            return x
        if kind in ("leaky_relu", "leaky_relu_global"):
            # leaky(x) = a x + (1 - a) relu(x)
            positive = self.add(f"{name}.relu", "relu", x)
            positive = self.add(f"{name}.relu.slope", "gain", positive, weights={"w": ()})
            return self.add(
                f"{name}.leaky_relu", "add", self.add(f"{name}.slope", "gain", x, weights={"w": ()}), positive
            )
        if kind == "gelu_erf":
            return self.add(f"{name}.gelu", "gelu", x, form="erf")
        return self.add(f"{name}.{kind}", kind, x)

    def affine(self, name: str, x: str, width: int) -> str:
        """A gain and a bias for each feature."""
        x = self.add(f"{name}.gain", "gain", x, weights={"w": (width,)})
        return self.add(f"{name}.bias", "bias", x, weights={"w": (width,)})

    def graph(self, length: int, output: str) -> Graph:
        return Graph(length, tuple(self.nodes), self.shapes, output)
