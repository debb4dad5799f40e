"""FFNs off the critical path of a Softmax-only model, without an inverse: the carry forms.

    `carry`: who reads v M + c reads v,                          (v M + c) W + b = v (M W) + (c W + b)

so queries, keys and values no longer wait for the FFN, whose product the stream alone needs. Then

    `merge_output_projection`: who reads u + A W_O reads u and A,    (u + A W_O) W + b = u W + A (W_O W) + b

so that one product stands between two softmaxes, and u W can be computed while the softmax runs. Both are always well
conditioned; the second costs more products. Precondition: `residual_stream.find_stream` found the stream; the leaf is
not the output (its width would cost more than the wait).
"""

from __future__ import annotations

from aero.compiler.passes.residual_stream import Stream, find_stream
from aero.compiler.passes.rewrite import Rewrite, matrix_and_bias
from aero.graph import Node, Program


def carry(program: Program, stream: Stream) -> Program:
    rewrite = Rewrite(program)
    for segment, following in zip(stream.segments, stream.segments[1:], strict=False):
        matrix = segment.matrix
        assert matrix is not None
        m, c = matrix_and_bias(program, matrix)
        for leaf in following.leaves:
            if leaf.inputs[0] == matrix.name:
                w, b = matrix_and_bias(program, leaf)
                rewrite.replace(leaf.name, rewrite.linear(leaf.name, matrix.inputs[0], m @ w, c @ w + b))
    return rewrite.done()


def merge_output_projection(program: Program) -> Program:
    stream, graph, rewrite = find_stream(program.graph), program.graph, Rewrite(program)
    if stream is None:
        return program
    leaves = [leaf for segment in stream.segments for leaf in segment.leaves]
    for leaf in leaves:
        total = graph.by_name[leaf.inputs[0]]
        if total.op != "add" or leaf.name in graph.kept:
            continue
        writer = next(w for s in stream.segments for w in s.writers if w.name in total.inputs)
        rest = next(name for name in total.inputs if name != writer.name)
        w, b = matrix_and_bias(program, leaf)
        v, c = matrix_and_bias(program, writer)
        early = rewrite.linear(f"{leaf.name}.stream", rest, w, b + c @ w)
        late = rewrite.linear(f"{leaf.name}.attended", writer.inputs[0], v @ w)
        rewrite.replace(leaf.name, early, late, Node(leaf.name, "add", (early.name, late.name)))
    return rewrite.done()
