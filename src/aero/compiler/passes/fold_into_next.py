"""Scales, gains and biases move into the linear layers that read them.

    (x diag(g)) W + b = x (diag(g) W) + b            x + c  ->  x W + (c W + b)
    rows(x diag(g)) = rows(x) diag(g)                mean over rows likewise, and with x + c

This takes LayerNorm's gain and bias, and the logits' multiplier, out of the graph.
Precondition: every reader is `linear`, or every one takes rows or their mean; the factor does not depend on the row.
"""

from __future__ import annotations

import numpy as np

from aero.compiler.passes.rewrite import Rewrite, factor_of, until_done
from aero.graph import Node, Program

_ROWS = ("rows", "mean_rows")


def fold_into_next(program: Program) -> Program:
    """Fold one after another, the nearest to its readers first."""
    return until_done(_fold_one, program)


def _fold_one(program: Program) -> Program:
    node = next((node for node in reversed(program.graph.nodes) if _foldable(program, node)), None)
    return program if node is None else _fold(program, node)


def _foldable(program: Program, node: Node) -> bool:
    graph = program.graph
    if node.op not in ("scale", "gain", "bias") or node.name in graph.kept:
        return False
    by_row = node.op != "scale" and graph.weight_shapes[node.weights[0]] == graph.shapes[node.name]
    readers = {reader.op for reader in graph.consumers[node.name]}
    return not by_row and (readers <= {"linear"} or readers <= set(_ROWS))


def _fold(program: Program, node: Node) -> Program:
    rewrite = Rewrite(program)
    width = program.graph.shapes[node.name][1]
    for reader in program.graph.consumers[node.name]:
        if reader.op in _ROWS:
            taken = reader.replace(name=rewrite.new_name(f"{reader.name}.taken"), inputs=node.inputs)
            rewrite.replace(reader.name, taken, node.replace(name=reader.name, inputs=(taken.name,)))
            continue
        w = program.weights[reader.weights[0]]
        b = program.weights[reader.weights[1]] if len(reader.weights) == 2 else None
        if node.op == "bias":
            c = np.broadcast_to(program.weights[node.weights[0]], width)
            b = c @ w if b is None else c @ w + b
        else:
            w = np.broadcast_to(factor_of(program, node), width)[:, None] * w
        weights = [rewrite.own_weight(reader.name, "w", w)]
        if b is not None:
            weights.append(rewrite.own_weight(reader.name, "b", b))
        rewrite.replace(reader.name, reader.replace(inputs=node.inputs, weights=tuple(weights)))
    return rewrite.done()
