"""A scalar gain of the residual stream sinks past the layers, until it meets a linear layer that takes it in.

With X = s Z, s > 0, each reader of X reads Z instead:

    X W + b            = Z (s W) + b
    X + F              = s (Z + F / s)                     the sum carries the gain on; 1/s goes into what computes F
    Norm_eps(X)        = Norm_{eps / s^2}(Z)               the gain ends here
    f(X)               = s f(Z)                            rows, ReLU, turns
    X diag(g)          = Z diag(s g)

Which of these an operation allows, its sheet says (`aero.graph.ops.sheet.Factor`). This takes beta, the FFN's scale of
the residual stream, out of the graph. A scalar s <= 0 is left where it is (a norm would change its sign).
"""

from __future__ import annotations

import numpy as np

from aero.compiler.passes.rewrite import Rewrite, factor_of
from aero.graph import OPS, Node, Program
from aero.graph.ops.sheet import Factor


def sink_scalar_gains(program: Program) -> Program:
    """Sink every scalar gain that can move, in the order of computation."""
    while (sunk := _sink_one(program)) is not program:
        program = sunk
    return program


def _sink_one(program: Program) -> Program:
    graph = program.graph
    for node in graph.nodes:
        readers = graph.consumers[node.name]
        if node.op not in ("scale", "gain") or node.name in graph.kept or not readers:
            continue
        s = factor_of(program, node)
        if s.ndim or s <= 0 or not all(_movable(program, node, reader) for reader in readers):
            continue
        rewrite = Rewrite(program)
        for reader in readers:
            _read_unscaled(program, rewrite, node, reader, s)
        return rewrite.done()
    return program


def _movable(program: Program, node: Node, reader: Node) -> bool:
    if reader.inputs.count(node.name) > 1:  # x * x has the factor twice
        return False
    if OPS[reader.op].factor is not Factor.TERM:
        return OPS[reader.op].factor is not Factor.STAYS
    # The other term must be able to take 1/s in: a linear layer that nothing else reads.
    others = [name for name in reader.inputs if name != node.name]
    if len(others) != 1:
        return False
    other = program.graph.by_name.get(others[0])
    return other is not None and other.op == "linear" and len(program.graph.consumers[other.name]) == 1


def _read_unscaled(program: Program, rewrite: Rewrite, node: Node, reader: Node, s: np.ndarray) -> None:
    (source,) = node.inputs
    unscaled = reader.replace(inputs=tuple(source if i == node.name else i for i in reader.inputs))
    factor = OPS[reader.op].factor
    if factor is Factor.WEIGHT:
        w = rewrite.own_weight(reader.name, "w", program.weights[reader.weights[0]] * s)
        rewrite.replace(reader.name, unscaled.replace(weights=(w, *reader.weights[1:])))
        return
    if factor is Factor.EPS:
        eps = float(reader.attrs["eps"]) / float(s) ** 2
        rewrite.replace(reader.name, unscaled.replace(attrs={**reader.attrs, "eps": eps}))
        return
    if factor is Factor.TERM:
        (other,) = (name for name in reader.inputs if name != node.name)
        layer = program.graph.by_name[other]
        names = tuple(
            rewrite.own_weight(other, role, program.weights[name] / s)
            for role, name in zip(("w", "b"), layer.weights, strict=False)
        )
        rewrite.replace(other, layer.replace(weights=names))
    gain = rewrite.new_name(f"{reader.name}.carried")  # an earlier one may wait there for a reader that is not ready
    rewrite.read_instead(reader.name, gain)
    rewrite.replace(reader.name, unscaled, Node(gain, "gain", (reader.name,), (rewrite.own_weight(gain, "w", s),)))
