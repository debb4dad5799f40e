"""What each operation means, in float64: the referee of every rewrite and every engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from aero.graph.graph import INPUT, Node, Program

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


def gelu(x: Array) -> Array:
    """GPT-2's GELU, the tanh form of Hendrycks & Gimpel 2016."""
    return 0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3)))


def layer_norm(x: Array, eps: float) -> Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + eps)


def causal_softmax(scores: Array) -> Array:
    live = causal_mask(*scores.shape[1:])
    scores = np.where(live, scores, -np.inf)
    exponentials = np.exp(scores - scores.max(axis=-1, keepdims=True))
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
    "relu": lambda x: np.maximum(x, 0.0),
    "gelu": gelu,
    "scores": lambda q, k, heads: split_heads(q, heads) @ split_heads(k, heads).transpose(0, 2, 1),
    "causal_softmax": causal_softmax,
    "attend": lambda p, v: merge_heads(p @ split_heads(v, p.shape[0])),
    "rows": lambda x, start, stop: x[start:stop],
}


def apply(node: Node, inputs: list[Array], weights: list[Array]) -> Array:
    """One operation on float64 arrays."""
    attrs: dict[str, Any] = dict(node.attrs)
    return MEANING[node.op](*inputs, *weights, **attrs)


def interpret(program: Program, ids: Array, *, keep: Callable[[str, Array], None] | None = None) -> Array:
    """Run a program in float64.

    ids: token ids, shape [length], integers in [0, V).
    keep: called with the name and the array of every value, for calibration and comparison.
    Returns the output value.  Raises ValueError when the ids do not fit the graph.
    """
    graph = program.graph
    ids = check_ids(ids, graph.length)
    values: dict[str, Array] = {INPUT: ids}
    for node in graph.nodes:
        value = apply(node, [values[i] for i in node.inputs], [program.weights[w] for w in node.weights])
        if keep is not None:
            keep(node.name, value)
        values[node.name] = value
    return values[graph.output]


def check_ids(ids: Array, length: int) -> Array:
    """The ids as int64 [length]; ValueError when they are not that many integers."""
    ids = np.asarray(ids)
    if ids.shape != (length,) or not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(f"this graph reads {length} integer token ids, not an array of {ids.dtype} {list(ids.shape)}")
    return ids.astype(np.int64)
