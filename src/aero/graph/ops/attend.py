"""probabilities [H, T, S], values [S, H d_k / group] -> [T, H d_k], heads side by side; mask: as of softmax.

group: so many heads of probabilities, one after the other, read the same head of values; 1 where it is left out.
"""

import math
from typing import Any

import numpy as np

from aero.graph.heads import merge_heads, split_heads, stack_groups, unstack_groups
from aero.graph.ops.sheet import Array, Attrs, Factor, Shape, Shapes, SharedProduct, Sheet, mask_of, need


def _shape(inputs: Shapes, weights: Shapes, attrs: Attrs) -> Shape:
    (p, v), group = inputs, int(attrs.get("group", 1))
    need(len(p) == 3 and len(v) == 2 and p[2] == v[0], f"probabilities {p} do not fit values {v}")
    need(group > 0 and p[0] % group == 0, f"{p[0]} heads are not in groups of {group}")
    need(v[1] * group % p[0] == 0, f"{p[0] // group} heads do not divide a width of {v[1]}")
    mask_of(attrs)
    return (p[1], v[1] * group)


def _factors(p: Array, v: Array, group: int = 1, **attrs: Any) -> tuple[Array, Array]:
    return stack_groups(p, group), split_heads(v, p.shape[0] // group)


def _joined(products: Array, group: int = 1, **attrs: Any) -> Array:
    return merge_heads(unstack_groups(products, group))


def _sizes(inputs: Shapes, attrs: Attrs) -> tuple[int, int, int, int, int]:
    (heads, queries, keys), (_, width), group = *inputs, int(attrs.get("group", 1))
    return heads // group, group, queries, keys, width * group // heads


def _attend(p: Array, v: Array, **attrs: Any) -> Array:
    return _joined(np.matmul(*_factors(p, v, **attrs)), **attrs)


def _bound(p: Array, v: Array, group: int = 1, **attrs: Any) -> Array:
    """A mean of values, as a row of probabilities adds up to one."""
    found: Array = np.repeat(v.reshape(len(p) // group, -1), group, axis=0).reshape(-1)
    return found


SHEET = Sheet(
    inputs=2,
    weights=(),
    attrs={},
    optional={"group": int, "mask": str},
    shape=_shape,
    meaning=_attend,
    arithmetic=SharedProduct(
        form=_attend,
        terms=lambda inputs, _, attrs: math.prod(_sizes(inputs, attrs)),
        factors=_factors,
        joined=_joined,
        sizes=_sizes,
        keys="inner",
    ),
    bound=_bound,
    magnitude=lambda value, p, v, **attrs: _attend(np.abs(p), np.abs(v), **attrs),
    row_by_row=False,
    factor=Factor.STAYS,
    precision="activation",
    error_steps=180,
)
