"""queries [T, H d_k], keys [S, H d_k / group] -> [H, T, S]: q_h k_h^T for each head, unscaled; mask: as of softmax.

group: so many heads of queries, one after the other, read the same head of keys; 1 where it is left out.
"""

import math
from typing import Any

import numpy as np

from aero.graph.heads import CAUSAL, live_mask, split_groups, split_heads, unstack_groups
from aero.graph.ops.sheet import Array, Attrs, Factor, Shape, Shapes, SharedProduct, Sheet, mask_of, need


def _shape(inputs: Shapes, weights: Shapes, attrs: Attrs) -> Shape:
    q, k = inputs
    heads, group = int(attrs["heads"]), int(attrs.get("group", 1))
    need(group > 0 and heads > 0 and heads % group == 0, f"{heads} heads are not in groups of {group}")
    need(len(q) == 2 and len(k) == 2 and q[1] == k[1] * group, f"queries {q} and keys {k} differ in width")
    need(q[1] % heads == 0, f"{heads} heads do not divide a width of {q[1]}")
    fits = mask_of(attrs) != CAUSAL or k[0] >= q[0]
    need(fits, f"{q[0]} queries over {k[0]} keys: causal attention needs at least as many keys")
    return (heads, q[0], k[0])


def _factors(q: Array, k: Array, heads: int, group: int = 1, **attrs: Any) -> tuple[Array, Array]:
    return split_groups(q, heads, group), split_heads(k, heads // group).transpose(0, 2, 1)


def _live(products: Array, heads: int, group: int = 1, mask: str = CAUSAL) -> Array:
    """Zero where the query does not see the key."""
    scores = unstack_groups(products, group)
    return np.where(live_mask(*scores.shape[1:], mask=mask), scores, scores.dtype.type(0))


def _sizes(inputs: Shapes, attrs: Attrs) -> tuple[int, int, int, int, int]:
    (queries, width), (keys, _), heads, group = *inputs, int(attrs["heads"]), int(attrs.get("group", 1))
    return heads // group, group, queries, keys, width // heads


def live_scores(q: Array, k: Array, **attrs: Any) -> Array:
    return _live(np.matmul(*_factors(q, k, **attrs)), **attrs)


def _bound(q: Array, k: Array, heads: int, group: int = 1, **attrs: Any) -> Array:
    products = q.reshape(heads // group, group, -1) * k.reshape(heads // group, 1, -1)
    found: Array = products.sum(axis=2).reshape(heads)
    return found


SHEET = Sheet(
    inputs=2,
    weights=(),
    attrs={"heads": int},
    optional={"group": int, "mask": str},
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
    bound=_bound,
    magnitude=lambda value, q, k, **attrs: live_scores(np.abs(q), np.abs(k), **attrs),
    row_by_row=False,
    factor=Factor.STAYS,
    precision="score",
    error_steps=180,
)
