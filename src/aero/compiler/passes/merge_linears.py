"""Two linear layers, one after the other, become one where that is no dearer.

    (x W1 + b1) W2 + b2 = x (W1 W2) + (b1 W2 + b2)          [T, k] -> [T, m] -> [T, n]

An FFN without an activation, 8 d^2 products for each row, becomes d^2. Precondition: nothing else reads what is
between them, and k n <= k m + m n (a bottleneck stays).
"""

from __future__ import annotations

from aero.compiler.passes.rewrite import Rewrite, matrix_and_bias, sole_reader, until_done
from aero.graph import Program


def merge_linears(program: Program) -> Program:
    return until_done(_merge_one, program)


def _merge_one(program: Program) -> Program:
    graph = program.graph
    for second in graph.nodes:
        first = graph.by_name.get(second.inputs[0])
        if second.op != "linear" or first is None or first.op != "linear":
            continue
        if sole_reader(graph, first.name) is not second:
            continue
        w1, b1 = matrix_and_bias(program, first)
        w2, b2 = matrix_and_bias(program, second)
        (k, m), n = w1.shape, w2.shape[1]
        if k * n > k * m + m * n:
            continue
        rewrite = Rewrite(program)
        rewrite.replace(second.name, rewrite.linear(second.name, first.inputs[0], w1 @ w2, b1 @ w2 + b2))
        return rewrite.done()
    return program
