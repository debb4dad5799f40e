"""What each operation means, in float64: the referee of every rewrite and every engine."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from aero.graph.graph import INPUT, Graph, Node, Program
from aero.graph.rotary import turns

Array = np.ndarray


def split_heads(x: Array, heads: int) -> Array:
    """[rows, H * d_k] -> [H, rows, d_k]."""
    rows, width = x.shape
    return x.reshape(rows, heads, width // heads).transpose(1, 0, 2)


def merge_heads(x: Array) -> Array:
    """[H, rows, d_k] -> [rows, H * d_k]."""
    heads, rows, width = x.shape
    return x.transpose(1, 0, 2).reshape(rows, heads * width)


def causal_mask(queries: int, keys: int) -> Array:
    """[T, S] of booleans: True where query t may see key s, that is s <= S - T + t."""
    return np.arange(keys)[None, :] <= np.arange(queries)[:, None] + (keys - queries)


_erf = np.vectorize(math.erf, otypes=[np.float64])


def gelu(x: Array, form: str = "tanh") -> Array:
    """x P(N(0, 1) <= x) for the form "erf"; "tanh" is GPT-2's approximation of it (Hendrycks & Gimpel 2016, §2)."""
    if form == "erf":
        return 0.5 * x * (1.0 + _erf(x * math.sqrt(0.5)))
    return 0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3)))


def layer_norm(x: Array, eps: float) -> Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + eps)


def rms_norm(x: Array, eps: float) -> Array:
    return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + eps)


def rotary(x: Array, heads: int, rotated: int, base: float, start: int) -> Array:
    """Queries or keys turned by their positions; see `aero.graph.rotary`."""
    by = turns(*x.shape, heads=heads, rotated=rotated, base=base, start=start)
    return x * by.cosine + x[:, by.partner] * by.sine


def live_scores(q: Array, k: Array, heads: int) -> Array:
    """q_h k_h^T for each head; zero where the query does not see the key."""
    scores = split_heads(q, heads) @ split_heads(k, heads).transpose(0, 2, 1)
    return np.where(causal_mask(*scores.shape[1:]), scores, 0)


def causal_softmax(scores: Array, base: float = np.e) -> Array:
    live = causal_mask(*scores.shape[1:])
    scores = np.where(live, scores, -np.inf)
    below = scores - scores.max(axis=-1, keepdims=True)
    exponentials = np.exp2(below) if base == 2.0 else np.exp(below)
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def _linear(x: Array, w: Array, b: Array | None = None) -> Array:
    return x @ w if b is None else x @ w + b


MEANING: Mapping[str, Callable[..., Array]] = {
    "embedding": lambda ids, table: table[ids],
    "linear": _linear,
    "gain": lambda x, w: x * w,
    "bias": lambda x, w: x + w,
    "scale": lambda x, factor: x * factor,
    "add": lambda x, y: x + y,
    "layer_norm": layer_norm,
    "rms_norm": rms_norm,
    "relu": lambda x: np.maximum(x, 0.0),
    "gelu": gelu,
    "rotary": rotary,
    "scores": live_scores,
    "causal_softmax": causal_softmax,
    "attend": lambda p, v: merge_heads(p @ split_heads(v, p.shape[0])),
    "rows": lambda x, start, stop: x[start:stop],
    "concat_rows": lambda x, y: np.concatenate([x, y]),
}


def apply(node: Node, inputs: list[Array], weights: list[Array]) -> Array:
    """One operation on float64 arrays."""
    attrs: dict[str, Any] = dict(node.attrs)
    return MEANING[node.op](*inputs, *weights, **attrs)


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
