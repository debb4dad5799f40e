"""Counts are read off shapes; the causal ones agree with the mask itself."""

import math

from hypothesis import given
from hypothesis import strategies as st

from aero.cost.quantities import live_entries, quantities
from aero.graph import Graph, Node
from aero.graph.interpret import causal_mask


@given(st.integers(1, 4), st.integers(1, 12), st.integers(0, 12))
def test_live_entries_are_those_of_the_mask(heads, queries, cached):
    keys = queries + cached
    assert live_entries((heads, queries, keys)) == heads * causal_mask(queries, keys).sum()


def test_linear_layers_of_one_value_share_its_input():
    nodes = (
        Node("x", "embedding", ("ids",), ("table",)),
        Node("q", "linear", ("x",), ("wq",)),
        Node("k", "linear", ("x",), ("wk",)),
        Node("scores", "scores", ("q", "k"), attrs={"heads": 2}),
        Node("p", "causal_softmax", ("scores",)),
        Node("y", "attend", ("p", "x")),
    )
    graph = Graph(5, nodes, {"table": (11, 8), "wq": (8, 6), "wk": (8, 6)}, "y")
    together = quantities(graph, nodes[1:3])
    assert together["inputs"] == 5 * 8
    assert together["outputs"] == 5 * 12
    assert together["multiplications"] == 5 * 8 * 12
    assert quantities(graph, nodes[:1])["inputs"] == 5 * 11
    softmax = quantities(graph, nodes[4:5])
    assert (softmax["live"], softmax["rows"], softmax["levels"]) == (2 * 15, 2 * 5, math.ceil(math.log2(5)))
    assert quantities(graph, nodes[5:6])["inputs"] == 2 * 5 * 5 + 5 * 8
