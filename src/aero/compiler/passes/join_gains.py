"""The gain of a post-norm joins the product that it is added to.

    (y diag(g) + c) + (h W + b) = [y h] [diag(g); W] + (b + c)

A norm whose value is also the residual stream keeps its gain, as a sum takes none in. Beside the features that W reads,
y takes no product of its own, no round, and often no byte, where it fills ciphertexts. Norms then read the value of a
linear layer alone, so that `centre_residual` takes their mean as well.
Precondition: the gain is of each feature, whatever the row; who reads its value are linear layers, which take it in
(`fold_into_next`), and sums with linear layers that nothing else reads.
"""

from __future__ import annotations

import numpy as np

from aero.compiler.passes.rewrite import Rewrite, matrix_and_bias, sole_reader
from aero.graph import Graph, Node, Program


def join_gains(program: Program) -> Program:
    graph, rewrite = program.graph, Rewrite(program)
    for gain in graph.nodes:
        width = graph.shapes[gain.name][-1]
        if gain.op != "gain" or graph.weight_shapes[gain.weights[0]] != (width,) or gain.name in graph.kept:
            continue
        g, c, value = program.weights[gain.weights[0]], np.zeros(width), gain
        bias = sole_reader(graph, gain.name)
        if bias is not None and bias.op == "bias" and graph.weight_shapes[bias.weights[0]] == (width,):
            c, value = program.weights[bias.weights[0]], bias
        readers = graph.consumers[value.name]
        sums = [reader for reader in readers if reader.op == "add"]
        layers = [_added(graph, value, total) for total in sums]
        if value.name in graph.kept or not sums or not all(r.op in ("add", "linear") for r in readers):
            continue
        for total, layer in zip(sums, layers, strict=True):
            if layer is None:
                continue
            w, b = matrix_and_bias(program, layer)
            beside = Node(f"{total.name}.read", "concat_columns", (gain.inputs[0], layer.inputs[0]))
            joined = rewrite.linear(total.name, beside.name, np.concatenate([np.diag(g), w]), b + c)
            rewrite.replace(total.name, beside, joined)
    return rewrite.done()


def _added(graph: Graph, value: Node, total: Node) -> Node | None:
    """The linear layer that a sum adds to a value, where nothing else reads it."""
    others = [name for name in total.inputs if name != value.name]
    layer = graph.by_name.get(others[0]) if len(others) == 1 else None
    return layer if layer is not None and layer.op == "linear" and sole_reader(graph, layer.name) is total else None
