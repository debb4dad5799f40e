"""What a graph does, in numbers: products and nonlinear elements, of live entries alone.

A multiplication is one product of a secret value with a weight or another secret; public constants, sums and look-ups
of an embedding are none. A nonlinear element is one entry that a nonlinear operation reads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from aero.graph.graph import Graph, Node
from aero.graph.heads import live_pairs
from aero.graph.ops import OPS, Shape
from aero.graph.ops.sheet import ElementProduct, Product, SharedProduct, WeightProduct, mask_of


@dataclass(frozen=True)
class Count:
    """Of a graph: operations, multiplications, nonlinear elements, and depth: the most interactive operations
    (products and nonlinear ones) that follow one another, what a protocol's rounds grow with."""

    operations: int
    multiplications: int
    nonlinear: int
    depth: int


def heads_of(graph: Graph, node: Node) -> Shape | None:
    """[H, T, S] of the scores or probabilities that an operation makes or reads; None where there are none."""
    shapes = (graph.shapes[name] for name in (node.name, *node.inputs))
    return next((shape for shape in shapes if len(shape) == 3), None)


def products(graph: Graph, node: Node) -> int:
    """Scalar products of an engine that computes every entry, public factors included; a look-up has none."""
    arithmetic = OPS[node.op].arithmetic
    if not isinstance(arithmetic, Product):
        return 0
    weights = [graph.weight_shapes[name] for name in node.weights]
    return arithmetic.terms([graph.shapes[name] for name in node.inputs], weights, node.attrs)


def multiplications(graph: Graph, node: Node) -> int:
    match OPS[node.op].arithmetic:
        case WeightProduct() | ElementProduct():
            return products(graph, node)
        case SharedProduct():
            shape = heads_of(graph, node)
            assert shape is not None
            return products(graph, node) // math.prod(shape[1:]) * live_pairs(*shape[1:], mask=mask_of(node.attrs))
    return 0


def nonlinear_elements(graph: Graph, node: Node) -> int:
    if not OPS[node.op].nonlinear:
        return 0
    shape = graph.shapes[node.name]
    return shape[0] * live_pairs(*shape[1:], mask=mask_of(node.attrs)) if len(shape) == 3 else math.prod(shape)


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
