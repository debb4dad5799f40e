"""LayerNorm needs no mean where the residual stream has none.

    LayerNorm(x) = RMSNorm(x C),  C = I - 11^T / d           and C C = C

LayerNorm does not see the mean of a row, so C may be applied to everything that writes to the stream, tables and output
weights and biases, where it costs nothing: E C, W_O C, b C. Then every row has mean zero, and LayerNorm is RMSNorm
(Zhang & Sennrich 2019). The gain and bias of the norm are nodes of their own here, and do not matter.
Precondition: the values that are centred are read by norms, sums and row selections alone.
"""

from __future__ import annotations

import numpy as np

from aero.compiler.passes.rewrite import Rewrite
from aero.graph import Graph, Program

_WRITERS = ("linear", "embedding")
_PASS_ON = ("add", "rows", "scale", "bias", "gain", "concat_rows")


def centre_residual(program: Program) -> Program:
    """Centre each stream, a set of values connected by sums, that LayerNorms read."""
    graph, rewrite = program.graph, Rewrite(program)
    seen: set[str] = set()
    for node in graph.nodes:
        if node.op != "layer_norm" or node.inputs[0] in seen:
            continue
        stream = _stream(graph, node.inputs[0])
        seen |= stream
        if _can_be_centred(program, stream):
            for name in stream:
                _centre(program, rewrite, name)
    return rewrite.done()


def _stream(graph: Graph, start: str) -> set[str]:
    """The values that sums and row selections connect with this one."""
    found, todo = set(), [start]
    while todo:
        name = todo.pop()
        if name in found:
            continue
        found.add(name)
        node = graph.by_name.get(name)
        if node is not None and node.op in _PASS_ON:
            todo += node.inputs
        todo += [reader.name for reader in graph.consumers[name] if reader.op in _PASS_ON]
    return found


def _can_be_centred(program: Program, stream: set[str]) -> bool:
    graph = program.graph
    for name in stream:
        node = graph.by_name.get(name)
        if node is None or node.op not in (*_WRITERS, *_PASS_ON) or name in graph.kept:
            return False
        if node.op == "gain" and program.weights[node.weights[0]].ndim:
            return False  # does not commute with C
        if any(reader.name not in stream and reader.op != "layer_norm" for reader in graph.consumers[name]):
            return False
    return True


def _centre(program: Program, rewrite: Rewrite, name: str) -> None:
    node = program.graph.by_name[name]
    if node.op in (*_WRITERS, "bias"):
        width = program.graph.shapes[name][1]
        roles = {"linear": ("w", "b"), "embedding": ("table",), "bias": ("w",)}[node.op]
        names = []
        for role, weight in zip(roles, node.weights, strict=False):
            w = np.broadcast_to(program.weights[weight], (*program.weights[weight].shape[:-1], width))
            names.append(rewrite.own_weight(name, role, w - w.mean(axis=-1, keepdims=True)))
        rewrite.replace(name, node.replace(weights=tuple(names)))
    for reader in program.graph.consumers[name]:
        if reader.op == "layer_norm":
            rewrite.replace(reader.name, reader.replace(op="rms_norm"))
