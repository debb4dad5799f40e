"""Scales and gains move into what computes the value that they multiply.

    (x W + b) diag(g) = x (W diag(g)) + b diag(g)        (x + c) g = x g + c g        E[ids] diag(g) = (E diag(g))[ids]
    (x h) g = x (h g)
    (x R) diag(g) = (x diag(g)) R        R: turns of pairs of features (`rotary`), g equal within each pair

This takes 1/sqrt(d_k), a temperature per head, 1/alpha and the embedding's multiplier out of the graph.
Precondition: nothing else reads that value, and the factor does not depend on the row (through a bias or turns it may).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from aero.compiler.passes.rewrite import Rewrite, factor_of
from aero.graph import Node, Program
from aero.graph.graph import INPUT
from aero.graph.rotary import turns


def fold_into_previous(program: Program) -> Program:
    """Fold until no scale or gain can move further up."""
    while (smaller := _fold_one(program)) is not program:
        program = smaller
    return program


def _fold_one(program: Program) -> Program:
    graph = program.graph
    for node in graph.nodes:
        if node.op not in ("scale", "gain") or node.inputs[0] == INPUT:
            continue
        previous = graph.by_name[node.inputs[0]]
        if len(graph.consumers[previous.name]) > 1 or previous.name in graph.kept:
            continue
        rewrite, g = Rewrite(program), factor_of(program, node)
        if previous.op in ("linear", "embedding", "gain") and g.ndim < 2:
            arrays = [program.weights[w] * g for w in previous.weights]
            roles = ("table",) if previous.op == "embedding" else ("w", "b")
            names = tuple(rewrite.own_weight(previous.name, role, a) for role, a in zip(roles, arrays, strict=False))
            rewrite.replace(previous.name, previous.replace(weights=names))
            rewrite.read_instead(node.name, previous.name)
            return rewrite.done()
        if previous.op == "bias" or _steps_over_turns(program, previous, g):
            # The factor steps over it: first the factor, then the scaled bias or the turns, under the same name.
            weights = previous.weights
            if previous.op == "bias":
                weights = (rewrite.own_weight(previous.name, "w", program.weights[weights[0]] * g),)
            rewrite.replace(node.name)
            rewrite.replace(
                previous.name,
                node.replace(inputs=previous.inputs),
                previous.replace(inputs=(node.name,), weights=weights),
            )
            rewrite.nodes = [
                n.replace(inputs=tuple(previous.name if i == node.name else i for i in n.inputs))
                if n.name != previous.name
                else n
                for n in rewrite.nodes
            ]
            rewrite.output = previous.name if rewrite.output == node.name else rewrite.output
            return rewrite.done()
    return program


def _steps_over_turns(program: Program, rotary: Node, g: np.ndarray) -> bool:
    """Does a factor treat features that turn together alike, and can it fold into what is turned? It stays otherwise:
    scalar gains sink through turns, and would for ever come back."""
    if rotary.op != "rotary":
        return False
    turned = program.graph.by_name.get(rotary.inputs[0])
    if turned is None or turned.op not in ("linear", "embedding", "gain", "bias"):
        return False
    if len(program.graph.consumers[turned.name]) > 1:
        return False
    rows, features = program.graph.shapes[rotary.name]
    by = turns(rows, features, **dict[str, Any](rotary.attrs))
    g = np.broadcast_to(g, (rows, features))
    return np.array_equal(g, g[:, by.partner])
