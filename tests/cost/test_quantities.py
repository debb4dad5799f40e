"""Counts are read off shapes."""

import math

from aero.cost.quantities import quantities
from aero.graph import Graph, Node
from aero.graph.count import count


def test_linear_layers_of_one_value_share_its_input():
    nodes = (
        Node("x", "embedding", ("ids",), ("table",)),
        Node("q", "linear", ("x",), ("wq",)),
        Node("k", "linear", ("x",), ("wk",)),
        Node("scores", "scores", ("q", "k"), attrs={"heads": 2}),
        Node("p", "softmax", ("scores",)),
        Node("y", "attend", ("p", "x")),
    )
    graph = Graph(5, nodes, {"table": (11, 8), "wq": (8, 6), "wk": (8, 6)}, "y")
    together = quantities(graph, nodes[1:3])
    assert together["inputs"] == 5 * 8
    assert together["outputs"] == 5 * 12
    assert together["products"] == 5 * 8 * 12
    assert quantities(graph, nodes[:1])["inputs"] == 5 * 11
    softmax = quantities(graph, nodes[4:5])
    assert (softmax["live"], softmax["rows"], softmax["levels"]) == (2 * 15, 2 * 5, math.ceil(math.log2(5)))
    assert quantities(graph, nodes[5:6])["inputs"] == 2 * 5 * 5 + 5 * 8
    assert softmax["outputs"] == 2 * 5 * 5
    assert quantities(graph, nodes[5:6])["products"] == 5 * 8 * 5


def test_two_products_for_each_feature_that_turns():
    nodes = (
        Node("x", "embedding", ("ids",), ("table",)),
        Node("y", "rotary", ("x",), (), {"heads": 2, "rotated": 2, "base": 100.0, "start": 0}),
    )
    graph = Graph(5, nodes, {"table": (11, 8)}, "y")
    assert quantities(graph, nodes[1:])["products"] == 5 * 2 * 2 * 2
    assert count(graph).multiplications == 0  # none of two secrets


def test_a_lookup_is_a_product_with_one_hot_rows():
    graph = Graph(5, (Node("x", "embedding", ("ids",), ("table",)),), {"table": (11, 8)}, "x")
    counts = quantities(graph, graph.nodes)
    assert (counts["inputs"], counts["outputs"], counts["products"]) == (5 * 11, 5 * 8, 5 * 11 * 8)
