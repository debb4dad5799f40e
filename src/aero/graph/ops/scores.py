"""queries [T, d], keys [S, d] -> [H, T, S]: q_h k_h^T for each head, unscaled; mask: as of softmax."""

import math
from typing import Any

import numpy as np

from aero.graph.heads import CAUSAL, live_mask, split_heads
from aero.graph.ops.sheet import Array, Attrs, Factor, Shape, Shapes, SharedProduct, Sheet, mask_of, need


def _shape(inputs: Shapes, weights: Shapes, attrs: Attrs) -> Shape:
    q, k = inputs
    heads = int(attrs["heads"])
    need(len(q) == 2 and len(k) == 2 and q[1] == k[1], f"queries {q} and keys {k} differ in width")
    need(heads > 0 and q[1] % heads == 0, f"{heads} heads do not divide a width of {q[1]}")
    fits = mask_of(attrs) != CAUSAL or k[0] >= q[0]
    need(fits, f"{q[0]} queries over {k[0]} keys: causal attention needs at least as many keys")
    return (heads, q[0], k[0])


def _factors(q: Array, k: Array, heads: int, mask: str = CAUSAL) -> tuple[Array, Array]:
    return split_heads(q, heads), split_heads(k, heads).transpose(0, 2, 1)


def _live(scores: Array, mask: str = CAUSAL, **attrs: Any) -> Array:
    """Zero where the query does not see the key."""
    return np.where(live_mask(*scores.shape[1:], mask=mask), scores, scores.dtype.type(0))


def _sizes(inputs: Shapes, attrs: Attrs) -> tuple[int, int, int, int]:
    (queries, width), (keys, _), heads = *inputs, int(attrs["heads"])
    return heads, queries, keys, width // heads


def live_scores(q: Array, k: Array, heads: int, mask: str = CAUSAL) -> Array:
    return _live(np.matmul(*_factors(q, k, heads)), mask)


SHEET = Sheet(
    inputs=2,
    weights=(),
    attrs={"heads": int},
    optional={"mask": str},
    shape=_shape,
    meaning=live_scores,
    arithmetic=SharedProduct(
        form=live_scores,
        terms=lambda inputs, _, attrs: math.prod(_sizes(inputs, attrs)),
        factors=_factors,
        joined=_live,
        sizes=_sizes,
        keys="columns",
    ),
    bound=lambda q, k, heads, **attrs: (q * k).reshape(heads, -1).sum(axis=1),
    magnitude=lambda value, q, k, **attrs: live_scores(np.abs(q), np.abs(k), **attrs),
    row_by_row=False,
    factor=Factor.STAYS,
    precision="score",
    error_steps=180,
)
