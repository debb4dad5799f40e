"""What costs are functions of: a few counts for each operation, read from a graph's shapes.

calls            1
inputs           elements of the values read (not of the weights); ids count as their one-hot rows, T V
outputs          elements of the value computed
multiplications  scalar products of the operation itself, done locally where a party holds a factor
live             entries of scores or probabilities at or below the causal diagonal, all heads
rows             rows that are normalised: H T of a softmax, T of a LayerNorm
levels           ceil(log2 of a row's length): the depth of a tree over a row
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from aero.graph import OPS, Graph, Node
from aero.graph.graph import INPUT


def quantities(graph: Graph, nodes: Sequence[Node]) -> Mapping[str, int]:
    """The counts of nodes that are computed together: one node, or all linear layers of one value."""
    shapes = graph.shapes
    outputs = sum(math.prod(shapes[node.name]) for node in nodes)
    names = dict.fromkeys(name for node in nodes for name in node.inputs)
    found = {
        "calls": 1,
        "inputs": sum(math.prod(shapes[name]) for name in names if name != INPUT),
        "outputs": outputs,
        "multiplications": sum(multiplications(graph, node) for node in nodes),
    }
    node = nodes[0]
    if node.op == "embedding":
        found["inputs"] = graph.length * graph.weight_shapes[node.weights[0]][0]
    shape = shapes[node.name]
    if node.op in ("scores", "causal_softmax"):
        found |= {"live": live_entries(shape), "rows": shape[0] * shape[1], "levels": _levels(shape[2])}
    elif node.op == "attend":
        found["live"] = live_entries(shapes[node.inputs[0]])
    elif len(shape) == 2:
        found |= {"rows": shape[0], "levels": _levels(shape[1])}
    return found


def multiplications(graph: Graph, node: Node) -> int:
    """Scalar multiplications of one operation, nonlinear functions not counted.

    A lookup counts as the product with one-hot rows that every engine makes of it.
    """
    shapes = graph.shapes
    outputs = math.prod(shapes[node.name])
    if node.op == "embedding":
        return outputs * graph.weight_shapes[node.weights[0]][0]
    if node.op == "linear":
        return outputs * shapes[node.inputs[0]][1]
    if node.op == "scores":
        return outputs * shapes[node.inputs[0]][1] // shapes[node.name][0]
    if node.op == "attend":
        return outputs * shapes[node.inputs[1]][0]
    return outputs if node.op in ("gain", "scale") else 0


def nonlinear_elements(graph: Graph, node: Node) -> int:
    """Elements that a nonlinear operation is computed for, zeros above the causal diagonal included; 0 for others."""
    return math.prod(graph.shapes[node.name]) if OPS[node.op].nonlinear else 0


def live_entries(shape: Sequence[int]) -> int:
    """Entries of [H, T, S] that causal attention reads: row t sees S - T + t + 1 keys."""
    heads, queries, keys = shape
    return heads * (queries * (keys - queries) + queries * (queries + 1) // 2)


def _levels(length: int) -> int:
    return (length - 1).bit_length()
