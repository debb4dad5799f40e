"""Softmax in powers of two, for engines whose exponential is 2^x.

    e^s = 2^(s log2 e):   softmax(q k^T) = softmax_2((q log2 e) k^T)

The factor goes on to the weights that compute the queries (`fold_into_previous`).
Precondition: nothing else reads those queries and scores.
"""

from __future__ import annotations

import math

from aero.compiler.passes.rewrite import Rewrite, sole_reader
from aero.graph import Node, Program


def softmax_base_two(program: Program) -> Program:
    graph, rewrite = program.graph, Rewrite(program)
    for node in graph.nodes:
        scores = graph.by_name.get(node.inputs[0])
        if node.op != "softmax" or "base" in node.attrs or scores is None or scores.op != "scores":
            continue
        queries, keys = scores.inputs
        if sole_reader(graph, scores.name) is not node or sole_reader(graph, queries) is not scores or queries == keys:
            continue
        scaled = Node(f"{queries}.log2_e", "scale", (queries,), (), {"factor": math.log2(math.e)})
        rewrite.replace(scores.name, scaled, scores.replace(inputs=(scaled.name, keys)))
        rewrite.replace(node.name, node.replace(attrs={**node.attrs, "base": 2.0}))
    return rewrite.done()
