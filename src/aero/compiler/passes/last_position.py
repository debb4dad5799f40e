"""Only rows that are read are computed: a selection of rows moves up through what computes them.

    rows(f(x)) = f(rows(x))                                 f row by row: linear, norms, activations, sums, turns
    rows(P V) = rows(P) V        rows(softmax(S)) = softmax(rows(S))        rows(q k^T) = rows(q) k^T

For a prompt whose last position alone is asked for, the last block's queries, output projection and FFN, the final norm
and the vocabulary projection are computed for one row; keys and values still for all.
Precondition: nothing else reads the value; through causal attention, the rows are the last ones (its triangle is
counted from the last row).
"""

from __future__ import annotations

from aero.compiler.passes.rewrite import Rewrite, until_done
from aero.graph import OPS, Graph, Node, Program
from aero.graph.heads import CAUSAL
from aero.graph.ops.sheet import mask_of
from aero.graph.ring_plan import rows_of_weight, weight_rows


def last_position(program: Program) -> Program:
    return until_done(_move_one, program)


def _move_one(program: Program) -> Program:
    graph = program.graph
    for name, readers in graph.consumers.items():
        node = graph.by_name.get(name)
        if node is None or not readers or name in graph.kept or any(r.op != "rows" for r in readers):
            continue
        if len({(r.attrs["start"], r.attrs["stop"]) for r in readers}) > 1:
            continue
        if OPS[node.op].row_by_row or (node.op == "attend" and _movable_attention(graph, node, readers[0])):
            rewrite = Rewrite(program)
            for extra in readers[1:]:
                rewrite.read_instead(extra.name, readers[0].name)
            _move(program, rewrite, node, readers[0])
            return rewrite.done()
    return program


def _movable_attention(graph: Graph, attend: Node, rows: Node) -> bool:
    softmax = graph.by_name.get(attend.inputs[0])
    scores = graph.by_name.get(softmax.inputs[0]) if softmax is not None else None
    return (
        softmax is not None
        and softmax.op == "softmax"
        and scores is not None
        and scores.op == "scores"
        and graph.consumers[softmax.name] == (attend,)
        and graph.consumers[scores.name] == (softmax,)
        and not {softmax.name, scores.name} & graph.kept
        and (mask_of(attend.attrs) != CAUSAL or rows.attrs["stop"] == graph.shapes[attend.name][0])
    )


def _move(program: Program, rewrite: Rewrite, node: Node, rows: Node) -> None:
    """Select rows of what the node reads, compute the node from those, under its own name."""
    graph, all_rows = program.graph, program.graph.shapes[node.name][0]
    start, stop = int(rows.attrs["start"]), int(rows.attrs["stop"])

    def select(name: str) -> str:
        selected = f"{name}.rows{start}"
        if all(n.name != selected for n in rewrite.nodes):
            rewrite.insert_after(name, rows.replace(name=selected, inputs=(name,)))
        return selected

    rewrite.read_instead(rows.name, node.name)
    rewrite.replace(rows.name)
    if node.op == "attend":
        scores = graph.by_name[graph.by_name[node.inputs[0]].inputs[0]]
        queries, keys = scores.inputs
        rewrite.replace(scores.name, scores.replace(inputs=(select(queries), keys)))
        return
    weights = []
    for weight in node.weights:
        name = weight
        if node.op != "linear" and program.weights[weight].shape == (all_rows, graph.shapes[node.name][1]):
            first = rows_of_weight(weight)
            name = weight_rows(weight, first + start, first + stop)
            rewrite.weights[name] = program.weights[weight][start:stop]
        weights.append(name)
    attrs = node.attrs if node.op != "rotary" else {**node.attrs, "start": int(node.attrs["start"]) + start}
    inputs = tuple(map(select, node.inputs))
    rewrite.replace(node.name, node.replace(inputs=inputs, weights=tuple(weights), attrs=attrs))
