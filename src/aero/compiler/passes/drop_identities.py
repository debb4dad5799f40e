"""What changes nothing is taken out.

    1 x = x     x + 0 = x     x I = x     x + 0 in a linear layer     x[0:T] = x

Precondition: the factor, matrix or bias is exactly that. What nothing reads goes with every rewrite (`Program.of`).
"""

from __future__ import annotations

import numpy as np

from aero.compiler.passes.rewrite import Rewrite, factor_of
from aero.graph import Node, Program


def drop_identities(program: Program) -> Program:
    rewrite = Rewrite(program)
    for node in program.graph.nodes:
        if node.op == "linear" and len(node.weights) == 2 and not program.weights[node.weights[1]].any():
            current = next(n for n in rewrite.nodes if n.name == node.name)
            rewrite.replace(node.name, current.replace(weights=node.weights[:1]))
        elif _changes_nothing(program, node):
            source = next(n for n in rewrite.nodes if n.name == node.name).inputs[0]
            rewrite.read_instead(node.name, source)
    return rewrite.done()


def _changes_nothing(program: Program, node: Node) -> bool:
    w = program.weights[node.weights[0]] if node.weights else None
    match node.op:
        case "scale" | "gain":
            return bool(np.all(factor_of(program, node) == 1.0))
        case "bias":
            return w is not None and not w.any()
        case "linear":
            return w is not None and len(node.weights) == 1 and w.flat[0] == 1.0 and np.array_equal(w, np.eye(len(w)))
        case "rows":
            return program.graph.shapes[node.name] == program.graph.shapes[node.inputs[0]]
    return False
