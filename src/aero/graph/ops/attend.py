"""probabilities [H, T, S], values [S, d] -> [T, d], heads side by side; mask: as of softmax."""

import math
from typing import Any

import numpy as np

from aero.graph.heads import merge_heads, split_heads
from aero.graph.ops.sheet import Array, Attrs, Factor, Shape, Shapes, SharedProduct, Sheet, mask_of, need


def _shape(inputs: Shapes, weights: Shapes, attrs: Attrs) -> Shape:
    p, v = inputs
    need(len(p) == 3 and len(v) == 2 and p[2] == v[0], f"probabilities {p} do not fit values {v}")
    need(v[1] % p[0] == 0, f"{p[0]} heads do not divide a width of {v[1]}")
    mask_of(attrs)
    return (p[1], v[1])


def _factors(p: Array, v: Array, **attrs: Any) -> tuple[Array, Array]:
    return p, split_heads(v, p.shape[0])


def _sizes(inputs: Shapes, attrs: Attrs) -> tuple[int, int, int, int]:
    (heads, queries, keys), (_, width) = inputs
    return heads, queries, keys, width // heads


def _attend(p: Array, v: Array, **attrs: Any) -> Array:
    return merge_heads(np.matmul(*_factors(p, v)))


def _joined(z: Array, **attrs: Any) -> Array:
    return merge_heads(z)


SHEET = Sheet(
    inputs=2,
    weights=(),
    attrs={},
    optional={"mask": str},
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
    bound=lambda p, v, **attrs: v,  # a mean of values, as a row of probabilities adds up to one
    magnitude=lambda value, p, v, **attrs: _attend(np.abs(p), np.abs(v)),
    row_by_row=False,
    factor=Factor.STAYS,
    precision="activation",
    error_steps=180,
)
