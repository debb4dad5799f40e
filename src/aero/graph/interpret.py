"""A program in float64, as the operations' sheets say: the referee of every rewrite and every engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from aero.graph.graph import INPUT, Graph, Node, Program
from aero.graph.ops import OPS

Array = np.ndarray


def apply(node: Node, inputs: list[Array], weights: list[Array]) -> Array:
    """One operation on float64 arrays."""
    return OPS[node.op].meaning(*inputs, *weights, **node.attrs)


def interpret(
    program: Program,
    ids: Array,
    *,
    state: Mapping[str, Array] | None = None,
    keep: Callable[[str, Array], None] | None = None,
) -> Array:
    """Run a program in float64.

    ids: token ids, shape [length], integers in [0, V).
    state: what an earlier run left, for a graph that continues one.
    keep: called with the name and the array of every value, for calibration and comparison.
    Returns the output value.  Raises ValueError when the ids or the state do not fit the graph.
    """
    return interpret_step(program, ids, state or {}, keep=keep)[0]


def interpret_step(
    program: Program, ids: Array, state: Mapping[str, Array], *, keep: Callable[[str, Array], None] | None = None
) -> tuple[Array, dict[str, Array]]:
    """As `interpret`; returns the output and the state that the next graph reads."""
    graph = program.graph
    values: dict[str, Array] = {INPUT: check_ids(ids, graph.length), **check_state(graph, state)}
    for node in graph.nodes:
        value = apply(node, [values[i] for i in node.inputs], [program.weights[w] for w in node.weights])
        if keep is not None:
            keep(node.name, value)
        values[node.name] = value
    return values[graph.output], {name: values[value] for name, value in graph.state_out.items()}


def check_state(graph: Graph, state: Mapping[str, Array]) -> dict[str, Array]:
    """What a graph reads of a state. ValueError where it is missing or has another shape."""
    found = {name: state[name] for name in graph.state_in if name in state}
    for name, shape in graph.state_in.items():
        if name not in found or found[name].shape != shape:
            raise ValueError(f"this graph continues another: run the one that leaves {name!r} as {list(shape)} first")
    return found


def check_ids(ids: Array, length: int) -> Array:
    """The ids as int64 [length]; ValueError when they are not that many integers."""
    ids = np.asarray(ids)
    if ids.shape != (length,) or not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(f"this graph reads {length} integer token ids, not an array of {ids.dtype} {list(ids.shape)}")
    return ids.astype(np.int64)
