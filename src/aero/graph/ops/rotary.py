"""Queries or keys, features of each head turned by public angles: `aero.graph.rotary`; row t has position start + t."""

import math
from typing import Any

import numpy as np

from aero.graph.ops.sheet import Array, Attrs, Factor, PublicProduct, Shape, Shapes, Sheet, need
from aero.graph.rotary import SCALING, partners, turns


def _shape(inputs: Shapes, weights: Shapes, attrs: Attrs) -> Shape:
    x, heads, rotated = inputs[0], int(attrs["heads"]), int(attrs["rotated"])
    base, start = float(attrs["base"]), int(attrs["start"])
    need(len(x) == 2 and heads > 0 and x[1] % heads == 0, f"{heads} heads do not divide {x}")
    need(
        2 <= rotated <= x[1] // heads and rotated % 2 == 0,
        f"{rotated} features of {x[1] // heads} cannot turn: an even number of them does",
    )
    check_scaling(attrs)
    need(
        1 < base < math.inf and 0 <= start < 1 << 32, f"rotary needs a base above 1 and a position, not {base}, {start}"
    )
    return x


def check_scaling(attrs: Attrs) -> None:
    given = {name: float(attrs[name]) for name in SCALING if name in attrs}
    need(set(given) in ({"factor"}, set(SCALING), set()), f"a scaling is factor, or {', '.join(SCALING)}, not {given}")
    need(all(0 < n < math.inf for n in given.values()), f"a scaling is of positive numbers, not {given}")
    need(len(given) < 2 or given["low"] < given["high"], f"low is below high, not {given}")


def rotary(x: Array, **attrs: Any) -> Array:
    return _turned(x, *_angles(x.shape, **attrs), **attrs)


def _angles(shape: Shape, **attrs: Any) -> tuple[Array, Array]:
    by = turns(*shape, **attrs)
    return by.cosine, by.sine


def _turned(x: Array, cosine: Array, sine: Array, *, heads: int, rotated: int, **attrs: Any) -> Array:
    return x * cosine + x[:, partners(x.shape[1], heads, rotated)] * sine


def _bound(x: Array, *, heads: int, rotated: int, **attrs: Any) -> Array:
    """At any position."""
    partner = partners(x.size, heads, rotated)
    return np.where(partner != np.arange(x.size), np.hypot(x, x[partner]), x)


def _magnitude(value: Array, x: Array, **attrs: Any) -> Array:
    return _turned(np.abs(x), *map(np.abs, _angles(x.shape, **attrs)), **attrs)


SHEET = Sheet(
    inputs=1,
    weights=(),
    attrs={"heads": int, "rotated": int, "base": float, "start": int},
    optional=dict.fromkeys(SCALING, float),
    shape=_shape,
    meaning=rotary,
    arithmetic=PublicProduct(
        form=_turned,
        # Two for each feature that turns.
        terms=lambda inputs, _, attrs: 2 * inputs[0][0] * int(attrs["heads"]) * int(attrs["rotated"]),
        constants=_angles,
        computed=True,
        finer=0,
    ),
    bound=_bound,
    magnitude=_magnitude,
    row_by_row=True,
    factor=Factor.PASSES,
    precision="activation",
    error_steps=1,
)
