"""One program, every position; from it, the program for a prompt and the program for the next token.

A decoder is causal, so the first n rows of the program for the whole context are the program for n tokens, and row n is
the program for one token after n others, with their keys and values as state. An encoder's program for n tokens has the
same nodes, over n rows; it has one output, and no state. Nothing is compiled twice: weights are shared, apart from the
rows of what depends on the position.
"""

from __future__ import annotations

import numpy as np

from aero.compiler.passes.last_position import last_position
from aero.graph import OPS, Graph, Node, Program
from aero.graph.ops.sheet import Move, SharedProduct
from aero.graph.ring_plan import state_name, weight_rows


def prefix(program: Program, length: int) -> Program:
    """Every position's output for the first `length` tokens. ValueError beyond the program's own length."""
    check_length(program, length)
    nodes, weights = _at(program, 0, length)
    return Program.of(length, nodes, weights, program.graph.output, checked=program.weights)


def prefill(program: Program, length: int, *, leave_state: bool = False) -> Program:
    """The output [1, V] of the last of `length` tokens; leaves keys and values for `decode` where asked. Of an encoder,
    its output, and no state."""
    check_length(program, length)
    nodes, weights = _at(program, 0, length)
    output, state = program.graph.output, {}
    if program.graph.causal:
        output = _last(program, nodes, length)
        state = {state_name(value): value for value in cached_values(program)} if leave_state else {}
    return last_position(Program.of(length, nodes, weights, output, state_out=state, checked=program.weights))


def decode(program: Program, past: int, length: int = 1, outputs: int = 1) -> Program:
    """The output [outputs, V] of the last of `length` tokens after `past` others, from the state that those left, and
    it leaves its own.

    ValueError where there is no token before it, or no room, and for an encoder.
    """
    if not program.graph.causal:
        raise ValueError("an encoder reads a whole text at once; nothing can follow what it has read")
    if past < 1:
        raise ValueError("the first token has no state to continue; use prefill")
    if not 1 <= outputs <= length:
        raise ValueError(f"cannot read {length} tokens and give {outputs} outputs; give at least 1 of each")
    check_length(program, past + length)
    nodes, weights = _at(program, past, past + length)
    cached = cached_values(program)
    state_in = {state_name(value): (past, program.graph.shapes[value][1]) for value in cached}
    continued: list[Node] = []
    for node in nodes:
        inputs = node.inputs
        if isinstance(OPS[node.op].arithmetic, SharedProduct):
            inputs = (node.inputs[0], f"{node.inputs[1]}.all")
        continued.append(node.replace(inputs=inputs))
        if node.name in cached:
            continued.append(Node(f"{node.name}.all", "concat_rows", (state_name(node.name), node.name)))
    output = _last(program, continued, length, outputs)
    state_out = {state_name(value): f"{value}.all" for value in cached}
    return last_position(
        Program.of(length, continued, weights, output, state_in=state_in, state_out=state_out, checked=program.weights)
    )


def prefill_graph(graph: Graph, length: int) -> Graph:
    """The structure of `prefill` from a structure alone."""
    zero = np.zeros(())
    shell = Program(graph, {name: np.broadcast_to(zero, shape) for name, shape in graph.weight_shapes.items()})
    return prefill(shell, length).graph


def cached_values(program: Program) -> tuple[str, ...]:
    """The keys and values of all layers."""
    products = (n for n in program.graph.nodes if isinstance(OPS[n.op].arithmetic, SharedProduct))
    return tuple(dict.fromkeys(node.inputs[1] for node in products))


def check_length(program: Program, length: int) -> None:
    if not 1 <= length <= program.graph.length:
        raise ValueError(
            f"{length} tokens do not fit this program's context of {program.graph.length}; shorten the prompt"
        )


def _last(program: Program, nodes: list[Node], length: int, count: int = 1) -> str:
    """The output's last rows: appended to `nodes` where there are others."""
    output = program.graph.output
    if length == count:
        return output
    nodes.append(Node(f"{output}.last", "rows", (output,), (), {"start": length - count, "stop": length}))
    return nodes[-1].name


def _at(program: Program, start: int, stop: int) -> tuple[list[Node], dict[str, np.ndarray]]:
    """The nodes for some rows, and all weights, among them those rows of what depends on the position."""
    graph, nodes, weights = program.graph, [], dict(program.weights)
    for node in graph.nodes:
        moved = OPS[node.op].arithmetic == Move(of="rows") and graph.causal
        assert not moved, "every position is computed here"
        names = list(node.weights)
        if node.op in ("gain", "bias") and graph.weight_shapes[names[0]] == graph.shapes[node.name]:
            names = [weight_rows(names[0], start, stop)]
            weights[names[0]] = program.weights[node.weights[0]][start:stop]
        attrs = node.attrs if node.op != "rotary" else {**node.attrs, "start": int(node.attrs["start"]) + start}
        nodes.append(node.replace(weights=tuple(names), attrs=attrs))
    return nodes, weights
