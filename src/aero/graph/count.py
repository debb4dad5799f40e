"""What a graph does, in numbers: products and nonlinear elements, of live entries alone.

A multiplication is one product of a secret value with a weight or another secret; public constants, sums and look-ups
of an embedding are none. A nonlinear element is one entry that a nonlinear operation reads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from aero.graph.graph import Graph, Node
from aero.graph.ops import OPS


@dataclass(frozen=True)
class Count:
    """Of a graph: operations, multiplications, nonlinear elements, and depth: the most interactive operations
    (products and nonlinear ones) that follow one another, what a protocol's rounds grow with."""

    operations: int
    multiplications: int
    nonlinear: int
    depth: int


def live_pairs(queries: int, keys: int) -> int:
    """Entries of one head's causal triangle: sum over t < T of S - T + t + 1."""
    return queries * (keys - queries) + queries * (queries + 1) // 2


def multiplications(graph: Graph, node: Node) -> int:
    shape = graph.shapes[node.name]
    match node.op:
        case "linear":
            return shape[0] * math.prod(graph.weight_shapes[node.weights[0]])
        case "scores":
            return live_pairs(*shape[1:]) * graph.shapes[node.inputs[0]][1]
        case "attend":
            return live_pairs(*graph.shapes[node.inputs[0]][1:]) * shape[1]
        case "gain":
            return math.prod(shape)
    return 0


def nonlinear_elements(graph: Graph, node: Node) -> int:
    if not OPS[node.op].nonlinear:
        return 0
    shape = graph.shapes[node.name]
    return shape[0] * live_pairs(*shape[1:]) if node.op == "causal_softmax" else math.prod(shape)


def count(graph: Graph) -> Count:
    depth = dict.fromkeys(graph.shapes, 0)
    for node in graph.nodes:
        interactive = OPS[node.op].nonlinear or multiplications(graph, node) > 0
        depth[node.name] = max((depth[i] for i in node.inputs), default=0) + interactive
    return Count(
        operations=len(graph.nodes),
        multiplications=sum(multiplications(graph, node) for node in graph.nodes),
        nonlinear=sum(nonlinear_elements(graph, node) for node in graph.nodes),
        depth=depth[graph.output],
    )
