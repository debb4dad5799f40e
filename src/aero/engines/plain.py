"""The reference engine: fixed point in one process, without any cryptography.

It shows what an engine's arithmetic does to a model, apart from its protocols: every value is an integer with f
fractional bits in a ring modulo 2^64, every product is truncated, and a nonlinear function is the float64 one, rounded
to a step.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from aero.engines.engine import Cost, Engine
from aero.graph import Graph, Node
from aero.graph.graph import INPUT
from aero.graph.interpret import apply, check_ids, merge_heads, split_heads
from aero.mpc.fixed_point import FixedPoint


class InsecurePlainEngine(Engine):
    """Both parties in one process, for tests and as the reference of every secure engine.

    fixed: the number format of all values and weights.

    Error: with f fractional bits each truncated product is off by less than 1 step, each rounded weight, input or
    nonlinear value by half a step; `tests/engines/test_plain.py` carries these bounds through the graph.
    """

    name: ClassVar[str] = "insecure-plain"
    insecure: ClassVar[bool] = True

    def __init__(self, fixed: FixedPoint | None = None) -> None:
        self.fixed = fixed or FixedPoint()
        self._cost = Cost(0.0)

    def run(
        self, graph: Graph, *, weights: Mapping[str, np.ndarray] | None = None, ids: np.ndarray | None = None
    ) -> np.ndarray:
        """As `Engine.run`, but one process brings both the weights and the ids.

        Raises OverflowError, naming the node, where a value leaves the ring.
        """
        if weights is None or ids is None:
            raise ValueError("the plain engine is both parties at once: it needs the weights and the ids")
        start = time.perf_counter()
        encoded = {name: self.fixed.encode(weights[name]) for name in graph.weight_shapes}
        values: dict[str, np.ndarray] = {INPUT: check_ids(ids, graph.length)}
        for node in graph.nodes:
            values[node.name] = self._apply(node, [values[i] for i in node.inputs], [encoded[w] for w in node.weights])
        self._cost = Cost(time.perf_counter() - start)
        return self.fixed.decode(values[graph.output])

    def _apply(self, node: Node, inputs: list[np.ndarray], weights: list[np.ndarray]) -> np.ndarray:
        fixed, attrs = self.fixed, dict[str, Any](node.attrs)
        match node.op:
            case "embedding" | "rows" | "add" | "bias":
                value = apply(node, inputs, weights)  # exact on integers
            case "linear":
                value = fixed.truncate(self._matmul(node, inputs[0], weights[0]))
                value = value + weights[1] if len(weights) == 2 else value
            case "gain":
                value = fixed.truncate(self._multiply(node, inputs[0], weights[0]))
            case "scale":
                value = fixed.truncate(self._multiply(node, inputs[0], fixed.encode(np.float64(attrs["factor"]))))
            case "scores":
                q, k = (split_heads(x, attrs["heads"]) for x in inputs)
                value = fixed.truncate(self._matmul(node, q, k.transpose(0, 2, 1)))
            case "attend":
                p, v = inputs
                value = merge_heads(fixed.truncate(self._matmul(node, p, split_heads(v, p.shape[0]))))
            case _:  # nonlinear
                value = fixed.encode(apply(node, [fixed.decode(x) for x in inputs], []))
        return value

    def _matmul(self, node: Node, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        self._check(node, np.abs(a.astype(np.float64)) @ np.abs(b.astype(np.float64)))
        return a @ b

    def _multiply(self, node: Node, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        self._check(node, np.abs(a.astype(np.float64) * b.astype(np.float64)))
        return a * b

    def _check(self, node: Node, magnitude: np.ndarray) -> None:
        """No partial sum of a product may wrap: bounded by the sum of magnitudes, in float64."""
        if magnitude.max() >= 2.0**63:
            raise OverflowError(
                f"{node.name}: a product of magnitude {magnitude.max() * self.fixed.step**2:.3g} leaves the ring, "
                f"which holds up to {self.fixed.largest_product:.3g}; use fewer fractional bits"
            )

    @property
    def cost(self) -> Cost:
        return self._cost

    def close(self) -> None:
        """Nothing is held."""
