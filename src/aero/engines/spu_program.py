"""The JAX function of a graph, written for what is cheap on SPU under Cheetah. Imports JAX; only `spu.py` imports this.

Bytes for each element, both directions, 64-bit ring (`docs/spu.md`): product of two secrets 310, comparison 90, choice
by a secret bit 10, product with a public number 3, anything linear with public numbers 0. So powers are few, and pieces
chosen by comparison are many.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aero.graph import Graph, Node
from aero.graph.interpret import causal_mask, gelu

FRACTION_BITS = 18

# exp(x) = (1 + y + y^2 / 2)^64 with y = x / 64. The square repeats beyond y = -1, so x must stay above -100.
EXP_SQUARINGS = 6

# gelu(x) = relu(x) - g(|x|), where g is smooth and vanishes; one parabola between two knots, 0 beyond the last.
GELU_KNOTS = (0.0, 0.6, 1.1, 1.71, 2.85, 4.49)


class GraphFunction:
    """The JAX function of a graph: arguments are the inputs by name, the result is the graph's output."""

    def __init__(self, graph: Graph, names: tuple[str, ...]) -> None:
        self.__name__ = "graph"
        self._graph = graph
        self._names = names

    def __call__(self, *arrays: Any) -> Any:
        inputs = dict(zip(self._names, arrays, strict=True))
        values: dict[str, Any] = {}
        for node in self._graph.nodes:
            if node.name in values:
                continue
            weights = [inputs[f"weights:{name}"] for name in node.weights]
            if node.op == "embedding":
                values[node.name] = inputs[f"ids:{weights[0].shape[0]}"] @ weights[0]
            elif node.op == "linear":
                values.update(self._linear(node, values, inputs))
            else:
                values[node.name] = OPS[node.op](*(values[i] for i in node.inputs), *weights, **node.attrs)
        return values[self._graph.output]

    def _linear(self, node: Node, values: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
        """All products of one value in one: its ciphertexts are sent and expanded once."""
        x = values[node.inputs[0]]
        group = [n for n in self._graph.consumers[node.inputs[0]] if n.op == "linear"]
        matrices = [inputs[f"weights:{n.weights[0]}"] for n in group]
        products = jnp.split(
            x @ jnp.concatenate(matrices, axis=1), np.cumsum([w.shape[1] for w in matrices])[:-1], axis=1
        )
        biases = [inputs[f"weights:{n.weights[1]}"] if len(n.weights) > 1 else 0.0 for n in group]
        return {n.name: product + bias for n, product, bias in zip(group, products, biases, strict=True)}


def _scores(q: Any, k: Any, heads: int) -> Any:
    return jnp.einsum("thd,shd->hts", _heads(q, heads), _heads(k, heads))


def _attend(p: Any, v: Any) -> Any:
    return jnp.einsum("hts,shd->thd", p, _heads(v, p.shape[0])).reshape(p.shape[1], v.shape[1])


def _heads(x: Any, heads: int) -> Any:
    return x.reshape(x.shape[0], heads, x.shape[1] // heads)


def _causal_softmax(scores: Any) -> Any:
    """Only live entries are exponentiated: the rows of the triangle lie side by side in [H, entries]."""
    queries, keys = scores.shape[1:]
    live = causal_mask(queries, keys).sum(axis=1)
    far_below = -float(1 << 12)
    top = jnp.where(causal_mask(queries, keys), scores, far_below).max(axis=-1, keepdims=True)
    below = scores - top
    e = _exp(jnp.concatenate([below[:, t, : live[t]] for t in range(queries)], axis=1))
    rows = jnp.split(e, np.cumsum(live)[:-1], axis=1)
    e = jnp.stack([jnp.pad(row, ((0, 0), (0, keys - row.shape[1]))) for row in rows], axis=1)
    # A quotient would cost a division for each entry; this is one reciprocal for each row.
    return e * (1.0 / e.sum(axis=-1, keepdims=True))


def _exp(x: Any) -> Any:
    """exp on [-100, 0], as (1 + y + y^2 / 2)^64, written so that it starts with a square: ((1 + y)^2 + 1) / 2."""
    z = 1.0 + x * (1.0 / (1 << EXP_SQUARINGS))
    z = (z * z + 1.0) * 0.5
    for _ in range(EXP_SQUARINGS):
        z = z * z
    return z


def _layer_norm(x: Any, eps: float) -> Any:
    share = 1.0 / x.shape[1]
    centred = x - x.sum(axis=-1, keepdims=True) * share
    variance = (centred * centred).sum(axis=-1, keepdims=True) * share + eps
    y = jax.lax.rsqrt(variance)
    # SPU's own approximation is good to about 1e-3; one step of Newton squares that, on one number for each row.
    y = y * (1.5 - 0.5 * (variance * y * y))
    return centred * y


def _relu(x: Any) -> Any:
    return jnp.maximum(x, 0.0)


def _gelu(x: Any) -> Any:
    """relu(x) - g(|x|), with all comparisons in one batch; g's pieces come as steps from one parabola to the next."""
    square = x * x
    knots = np.array(GELU_KNOTS[1:]).reshape(-1, 1, 1)
    positive, *beyond = jnp.concatenate([x[None], square[None] - knots**2]) > 0
    relu = jnp.where(positive, x, 0.0)
    size = 2.0 * relu - x
    pieces = gelu_pieces()
    steps = np.diff(pieces, axis=0, append=0.0)
    tail = _parabola(pieces[0], size, square)
    for above, step in zip(beyond, steps, strict=True):
        tail = tail + jnp.where(above, _parabola(step, size, square), 0.0)
    return relu - tail


def _parabola(c: np.ndarray, x: Any, square: Any) -> Any:
    return float(c[0]) + float(c[1]) * x + float(c[2]) * square


@functools.cache
def gelu_pieces() -> np.ndarray:
    """Coefficients [pieces, 3] (of 1, x, x^2) of g(x) = x - gelu(x) between the knots, x >= 0.

    Chebyshev interpolation on each piece, within 8e-4 of g. Rounded to the ring's fractions, so that the steps between
    pieces add up to exactly nothing far from the origin.
    """
    pieces = [
        np.polynomial.Chebyshev.interpolate(lambda u: u - gelu(u), 2, domain=[a, b]).convert(
            kind=np.polynomial.Polynomial
        )
        for a, b in itertools.pairwise(GELU_KNOTS)
    ]
    return np.round(np.array([p.coef for p in pieces]) * 2.0**FRACTION_BITS) / 2.0**FRACTION_BITS


OPS: Mapping[str, Callable[..., Any]] = {
    "gain": lambda x, w: x * w,
    "bias": lambda x, w: x + w,
    "scale": lambda x, factor: x * factor,
    "add": lambda x, y: x + y,
    "layer_norm": _layer_norm,
    "relu": _relu,
    "gelu": _gelu,
    "scores": _scores,
    "causal_softmax": _causal_softmax,
    "attend": _attend,
    "rows": lambda x, start, stop: x[start:stop],
}
