"""What costs are functions of: a few counts for each operation, read from a graph's shapes.

    calls     1
    inputs    elements of the values read (not of the weights); ids count as their one-hot rows, T V
    outputs   elements of the value computed
    products  scalar products of an engine that computes every entry: those above the causal diagonal included, and a
              look-up as the product with one-hot rows
    heads     matrices of scores or probabilities
    live      their entries at or below the causal diagonal, all heads
    rows      rows of the value: H T of a softmax, T of a matrix
    levels    ceil(log2 of a row's length): the depth of a tree over a row

`aero.graph.count` counts what the mathematics needs, live entries alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from aero.graph import Graph, Node
from aero.graph.count import live_pairs
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
        "products": sum(_products(graph, node) for node in nodes),
    }
    node = nodes[0]
    if node.op == "embedding":
        found["inputs"] = graph.length * graph.weight_shapes[node.weights[0]][0]
    shape = shapes[node.name]
    if node.op in ("scores", "causal_softmax"):
        found |= {
            "heads": shape[0],
            "live": shape[0] * live_pairs(*shape[1:]),
            "rows": shape[0] * shape[1],
            "levels": _levels(shape[2]),
        }
    elif node.op == "attend":
        heads, *pairs = shapes[node.inputs[0]]
        found |= {"heads": heads, "live": heads * live_pairs(*pairs)}
    elif len(shape) == 2:
        found |= {"rows": shape[0], "levels": _levels(shape[1])}
    return found


def _products(graph: Graph, node: Node) -> int:
    shapes = graph.shapes
    outputs = math.prod(shapes[node.name])
    match node.op:
        case "embedding":
            return outputs * graph.weight_shapes[node.weights[0]][0]
        case "linear":
            return outputs * shapes[node.inputs[0]][1]
        case "scores":
            return outputs * shapes[node.inputs[0]][1] // shapes[node.name][0]
        case "attend":
            return outputs * shapes[node.inputs[1]][0]
        case "gain" | "scale":
            return outputs
        case "rotary":  # two for each feature that turns
            return 2 * shapes[node.name][0] * int(node.attrs["heads"]) * int(node.attrs["rotated"])
    return 0


def _levels(length: int) -> int:
    return (length - 1).bit_length()
