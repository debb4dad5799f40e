"""What costs are functions of: a few counts for each operation, read from a graph's shapes.

    calls     1
    inputs    elements of the values read (not of the weights); ids count as their one-hot rows, T V
    outputs   elements of the value computed
    products  scalar products of an engine that computes every entry: those that are not live included, and a
              look-up as the product with one-hot rows
    heads     matrices of scores or probabilities
    live      their live entries, all heads: with a causal mask, those at or below the diagonal
    rows      rows of the value: H T of a softmax, T of a matrix
    levels    ceil(log2 of a row's length): the depth of a tree over a row

`aero.graph.count` counts what the mathematics needs, live entries alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from aero.graph import OPS, Graph, Node
from aero.graph.count import heads_of, products
from aero.graph.graph import INPUT
from aero.graph.heads import live_pairs
from aero.graph.ops.sheet import LookUp, mask_of


def quantities(graph: Graph, nodes: Sequence[Node]) -> Mapping[str, int]:
    """The counts of nodes that are computed together: one node, or all linear layers of one value."""
    shapes = graph.shapes
    outputs = sum(math.prod(shapes[node.name]) for node in nodes)
    names = dict.fromkeys(name for node in nodes for name in node.inputs)
    found = {
        "calls": 1,
        "inputs": sum(math.prod(shapes[name]) for name in names if name != INPUT),
        "outputs": outputs,
        "products": sum(products(graph, node) for node in nodes),
    }
    node, shape = nodes[0], shapes[nodes[0].name]
    if isinstance(OPS[node.op].arithmetic, LookUp):
        one_hot = graph.length * graph.weight_shapes[node.weights[0]][0]
        found |= {"inputs": one_hot, "products": one_hot * shape[1]}
    if (pairs := heads_of(graph, node)) is not None:
        found |= {"heads": pairs[0], "live": pairs[0] * live_pairs(*pairs[1:], mask=mask_of(node.attrs))}
    return found | {"rows": math.prod(shape[:-1]), "levels": _levels(shape[-1])}


def _levels(length: int) -> int:
    return (length - 1).bit_length()
