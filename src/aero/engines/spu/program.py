"""The JAX functions of a graph, written for what is cheap on SPU under Cheetah.

Bytes for each element, both directions, 64-bit ring (`docs/understand/spu.md`): product of two secrets 310, comparison
90, choice by a secret bit 10, product with a public number 3, anything linear with public numbers 0. So powers are few,
and pieces chosen by comparison are many.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aero.engines.planning.steps import LOOK_UPS
from aero.graph import Graph, Node
from aero.graph.heads import CAUSAL, live_mask
from aero.graph.ops import Shape, require_all
from aero.graph.ops.gelu import gelu
from aero.graph.ops.silu import silu
from aero.graph.rotary import turns
from aero.mpc.party import Role

FRACTION_BITS = 18

# exp(x) = (1 + y + y^2 / 2)^64 with y = x / 64. The square repeats beyond y = -1, so x must stay above -100.
EXP_SQUARINGS = 6

# gelu(x) = relu(x) - g(|x|), and silu likewise, where g is smooth and vanishes; one parabola between two knots, 0
# beyond the last.
GELU_KNOTS = (0.0, 0.6, 1.1, 1.71, 2.85, 4.49)
SILU_KNOTS = (0.0, 0.93, 1.8, 2.97, 5.45, 8.91)


@dataclass(frozen=True)
class SpuProgram:
    """One SPU program: a node of the graph, or all the products of one value.

    function: of arrays in the order of `inputs`; returns one array for each of `outputs`.
    inputs: names of variables: "value:NODE", "ids:VOCABULARY", "weights:NAME".
    key: equal for steps that compile to the same code.
    """

    label: str
    function: Callable[..., tuple[Any, ...]]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    key: tuple[Hashable, ...]


Emit = Callable[[Graph, Node], SpuProgram]
"""What makes the program of a node, and of those that are computed with it."""


def input_layout(graph: Graph) -> dict[str, tuple[Shape, type, Role]]:
    """Names, shapes, types and owners of the inputs: one-hot rows for each size of table, and the weights."""
    layout: dict[str, tuple[Shape, type, Role]] = {}
    for node in graph.nodes:
        if node.op in LOOK_UPS:
            vocabulary = graph.weight_shapes[node.weights[0]][0]
            layout[f"ids:{vocabulary}"] = ((graph.length, vocabulary), np.int64, Role.CLIENT)
    for name, shape in sorted(graph.weight_shapes.items()):
        layout[f"weights:{name}"] = (shape, np.float64, Role.SERVER)
    return layout


def programs(graph: Graph) -> list[SpuProgram]:
    """The graph as programs in order. Small ones: SPU compiles slowly, and those of all layers are the same."""
    found: list[SpuProgram] = []
    done: set[str] = set()
    for node in graph.nodes:
        if f"value:{node.name}" not in done:
            found.append(EMITTERS[node.op](graph, node))
            done.update(found[-1].outputs)
    return found


def _each(operation: Callable[..., Any]) -> Emit:
    """A program for each node: `operation` of its inputs and weights."""

    def emit(graph: Graph, node: Node) -> SpuProgram:
        return _of_node(graph, node, operation, *(f"value:{name}" for name in node.inputs))

    return emit


def _embedding(graph: Graph, node: Node) -> SpuProgram:
    return _of_node(graph, node, lambda rows, table: rows @ table, f"ids:{graph.weight_shapes[node.weights[0]][0]}")


def _of_node(graph: Graph, node: Node, operation: Callable[..., Any], *inputs: str) -> SpuProgram:
    shapes = (*(graph.shapes[name] for name in node.inputs), *(graph.weight_shapes[name] for name in node.weights))
    return SpuProgram(
        node.name,
        lambda *arrays: (operation(*arrays, **node.attrs),),
        (*inputs, *(f"weights:{name}" for name in node.weights)),
        (f"value:{node.name}",),
        (node.op, *node.attrs.items(), shapes),
    )


def _linear(graph: Graph, node: Node) -> SpuProgram:
    """All products of one value in one: its ciphertexts are sent and expanded once."""
    group = [n for n in graph.consumers[node.inputs[0]] if n.op == node.op]
    count = len(group)
    biased = [len(n.weights) > 1 for n in group]
    widths = [graph.shapes[n.name][1] for n in group]

    def products(x: Any, *weights: Any) -> tuple[Any, ...]:
        biases = iter(weights[count:])
        parts = jnp.split(x @ jnp.concatenate(weights[:count], axis=1), np.cumsum(widths)[:-1], axis=1)
        return tuple(part + next(biases) if b else part for part, b in zip(parts, biased, strict=True))

    matrices = [n.weights[0] for n in group]
    biases = [n.weights[1] for n in group if len(n.weights) > 1]
    return SpuProgram(
        " ".join(n.name for n in group),
        products,
        (f"value:{node.inputs[0]}", *(f"weights:{name}" for name in matrices + biases)),
        tuple(f"value:{n.name}" for n in group),
        (node.op, graph.shapes[node.inputs[0]], tuple(widths), tuple(biased)),
    )


def _scores(q: Any, k: Any, heads: int, group: int = 1, mask: str = CAUSAL) -> Any:
    queries, keys = _heads(q, heads), _heads(k, heads // group)
    if group == 1:
        return jnp.einsum("thd,shd->hts", queries, keys)
    queries = queries.reshape(len(q), heads // group, group, -1)
    return jnp.einsum("tkgd,skd->kgts", queries, keys).reshape(heads, len(q), len(k))


def _attend(p: Any, v: Any, group: int = 1, mask: str = CAUSAL) -> Any:
    heads, rows, keys = p.shape
    values = _heads(v, heads // group)
    if group == 1:
        return jnp.einsum("hts,shd->thd", p, values).reshape(rows, v.shape[1])
    stacked = p.reshape(heads // group, group, rows, keys)
    return jnp.einsum("kgts,skd->tkgd", stacked, values).reshape(rows, v.shape[1] * group)


def _heads(x: Any, heads: int) -> Any:
    return x.reshape(x.shape[0], heads, x.shape[1] // heads)


def _softmax(scores: Any, base: float = np.e, mask: str = CAUSAL) -> Any:
    """Only live entries are exponentiated: they are packed into [H, entries] by public indices."""
    heads, queries, keys = scores.shape
    sees = live_mask(queries, keys, mask=mask)
    live = np.flatnonzero(sees)
    position = np.where(sees, sees.cumsum().reshape(sees.shape) - 1, 0).reshape(-1)
    far_below = -float(1 << 12)
    below = scores - jnp.where(sees, scores, far_below).max(axis=-1, keepdims=True)
    e = _exp(_columns(below.reshape(heads, -1), live), rate=float(np.log(base)))
    e = jnp.where(sees, _columns(e, position).reshape(scores.shape), 0.0)
    # A quotient would cost a division for each entry; this is one reciprocal for each row.
    return e * (1.0 / e.sum(axis=-1, keepdims=True))


def _columns(x: Any, columns: np.ndarray) -> Any:
    return x.at[:, columns].get(mode="promise_in_bounds")


def _exp(x: Any, rate: float = 1.0) -> Any:
    """exp(rate x) for rate x in [-100, 0], as (1 + y + y^2 / 2)^64 = (((1 + y)^2 + 1) / 2)^64 with y = rate x / 64.

    Squares are written as products: SPU makes those from a cache, while its own square, which `jnp.exp` would use,
    fills a batch of 4,096 even for a few entries.
    """
    z = 1.0 + x * (rate / (1 << EXP_SQUARINGS))
    z = (z * z + 1.0) * 0.5
    for _ in range(EXP_SQUARINGS):
        z = z * z
    return z


def _layer_norm(x: Any, eps: float) -> Any:
    return _rms_norm(x - x.sum(axis=-1, keepdims=True) * (1.0 / x.shape[1]), eps)


def _rms_norm(x: Any, eps: float, heads: int = 1) -> Any:
    if heads > 1:
        return _rms_norm(x.reshape(len(x) * heads, -1), eps).reshape(x.shape)
    mean_square = (x * x).sum(axis=-1, keepdims=True) * (1.0 / x.shape[1]) + eps
    y = jax.lax.rsqrt(mean_square)
    # SPU's own approximation is good to about 1e-3; one step of Newton squares that, on one number for each row.
    y = y * (1.5 - 0.5 * (mean_square * y * y))
    return x * y


def _relu(x: Any) -> Any:
    return jnp.maximum(x, 0.0)


def _rotary(x: Any, **attrs: Any) -> Any:
    """Only features that turn are multiplied, by public numbers, all in one batch."""
    by = turns(*x.shape, **attrs)
    turning, still = np.flatnonzero(by.turning), np.flatnonzero(~by.turning)
    factors = np.concatenate([by.cosine[:, turning], by.sine[:, turning]], axis=1)
    products = _columns(x, np.concatenate([turning, by.partner[turning]])) * factors
    turned = products[:, : len(turning)] + products[:, len(turning) :]
    back = np.argsort(np.concatenate([turning, still]))
    return _columns(jnp.concatenate([turned, _columns(x, still)], axis=1), back)


def _gelu(x: Any, form: str = "tanh") -> Any:
    return _smooth_relu(x, GELU_KNOTS, gelu_pieces(form))


def _silu(x: Any) -> Any:
    return _smooth_relu(x, SILU_KNOTS, silu_pieces())


def _tanh(x: Any) -> Any:
    """(1 - e) / (1 + e) of e = exp(-2 |x|), with the sign of x."""
    sign = 1.0 - 2.0 * (x < 0)
    e = _exp(jnp.maximum(x * sign, 0.0) * -1.0, rate=2.0)
    return sign * (1.0 - e) * (1.0 / (1.0 + e))


def _smooth_relu(x: Any, at: tuple[float, ...], pieces: np.ndarray) -> Any:
    """relu(x) - g(|x|), with all comparisons in one batch; g's pieces come as steps from one parabola to the next."""
    square = x * x
    knots = np.array(at[1:]).reshape(-1, 1, 1)
    above = jnp.concatenate([x[None], square[None] - knots**2]) > 0
    relu = jnp.where(above[0], x, 0.0)
    size = 2.0 * relu - x
    steps = _parabolas(np.diff(pieces, axis=0, append=0.0), size, square)
    return relu - _parabolas(pieces[:1], size, square)[0] - jnp.where(above[1:], steps, 0.0).sum(axis=0)


def _parabolas(c: np.ndarray, x: Any, square: Any) -> Any:
    """c [pieces, 3], x and x^2 [rows, features] -> [pieces, rows, features]."""
    c = c.reshape(len(c), 3, 1, 1)
    return c[:, 0] + c[:, 1] * x + c[:, 2] * square


@functools.cache
def gelu_pieces(form: str = "tanh") -> np.ndarray:
    """Of either form of GELU, within 8e-4."""
    return _parabolas_of(lambda u: u - gelu(u, form), GELU_KNOTS)


@functools.cache
def silu_pieces() -> np.ndarray:
    """Of SiLU, within 1.3e-3."""
    return _parabolas_of(lambda u: u - silu(u), SILU_KNOTS)


def _parabolas_of(g: Callable[[np.ndarray], np.ndarray], knots: tuple[float, ...]) -> np.ndarray:
    """Coefficients [pieces, 3] (of 1, x, x^2) of g between the knots, x >= 0: Chebyshev interpolation on each piece.

    Rounded to the ring's fractions, so that the steps between pieces add up to exactly nothing far from the origin.
    """
    pieces = [
        np.polynomial.Chebyshev.interpolate(g, 2, domain=[a, b]).convert(kind=np.polynomial.Polynomial)
        for a, b in itertools.pairwise(knots)
    ]
    return np.round(np.array([p.coef for p in pieces]) * 2.0**FRACTION_BITS) / 2.0**FRACTION_BITS


EMITTERS: Mapping[str, Emit] = {
    "embedding": _embedding,
    "linear": _linear,
    "gain": _each(lambda x, w: x * w),
    "bias": _each(lambda x, w: x + w),
    "scale": _each(lambda x, factor: x * factor),
    "add": _each(lambda x, y: x + y),
    "multiply": _each(lambda x, y: x * y),
    "layer_norm": _each(_layer_norm),
    "rms_norm": _each(_rms_norm),
    "relu": _each(_relu),
    "gelu": _each(_gelu),
    "silu": _each(_silu),
    "tanh": _each(_tanh),
    "rotary": _each(_rotary),
    "scores": _each(_scores),
    "softmax": _each(_softmax),
    "attend": _each(_attend),
    "rows": _each(lambda x, start, stop: x[start:stop]),
    "concat_rows": _each(lambda x, y: jnp.concatenate([x, y])),
    "concat_columns": _each(lambda x, y: jnp.concatenate([x, y], axis=1)),
    "mean_rows": _each(lambda x: x.sum(axis=0, keepdims=True) * (1.0 / x.shape[0])),
}
require_all("SPU's programs", EMITTERS)
