"""Keys need no bias, and values hand theirs on.

    softmax(q (k + b)^T) = softmax(q k^T)                    q b^T is one number for a row of scores
    P (v + b) = P v + b                                       rows of probabilities sum to one

so the bias of the keys goes, and that of the values becomes b W in the bias of the linear layers that read the attended
values (Jha & Reagen 2024 keep both). The queries' bias stays: it weighs the keys. The keys' bias stays as well where
positions are rotary: (q R_t) (b R_s)^T depends on the position s of the key.
Precondition: the keys are read by scores alone, and those by a softmax alone; the values by attention alone, whose
probabilities come from a softmax, and the attended values by linear layers alone.
"""

from __future__ import annotations

import numpy as np

from aero.compiler.passes.rewrite import Rewrite, matrix_and_bias
from aero.graph import Node, Program


def drop_attention_biases(program: Program) -> Program:
    rewrite = Rewrite(program)
    for node in program.graph.nodes:
        if node.op != "linear" or len(node.weights) < 2 or node.name in program.graph.kept:
            continue
        if _only_keys(program, node) or _only_values(program, node):
            rewrite.replace(node.name, node.replace(weights=node.weights[:1]))
    for node in list(rewrite.nodes):
        if node.op == "linear":
            _take_over(program, rewrite, node)
    return rewrite.done()


def _only_keys(program: Program, node: Node) -> bool:
    graph = program.graph
    return all(
        reader.op == "scores"
        and reader.inputs[1] == node.name != reader.inputs[0]
        and reader.name not in graph.kept
        and all(n.op == "softmax" for n in graph.consumers[reader.name])
        for reader in graph.consumers[node.name]
    )


def _only_values(program: Program, node: Node) -> bool:
    graph = program.graph
    return all(
        reader.op == "attend"
        and reader.inputs[1] == node.name
        and graph.by_name[reader.inputs[0]].op == "softmax"
        and reader.name not in graph.kept
        and all(n.op == "linear" for n in graph.consumers[reader.name])
        for reader in graph.consumers[node.name]
    )


def _take_over(program: Program, rewrite: Rewrite, node: Node) -> None:
    """Add to a linear layer's bias what the attended values that it reads have lost."""
    attend = program.graph.by_name.get(node.inputs[0])
    if attend is None or attend.op != "attend":
        return
    values = program.graph.by_name.get(attend.inputs[1])
    if values is None or values.op != "linear" or len(values.weights) < 2 or not _only_values(program, values):
        return
    w, b = matrix_and_bias(program, node)
    heads, group = program.graph.shapes[attend.inputs[0]][0], int(attend.attrs.get("group", 1))
    handed_on = matrix_and_bias(program, values)[1].reshape(heads // group, -1)
    bias = rewrite.own_weight(node.name, "b", b + np.repeat(handed_on, group, axis=0).reshape(-1) @ w)
    rewrite.replace(node.name, node.replace(weights=(node.weights[0], bias)))
