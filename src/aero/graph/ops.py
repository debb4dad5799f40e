"""The closed set of operations, with the rule that gives each one's output shape.

Shapes, throughout:  T query rows, S key rows (S >= T), d features, H heads, d_k = d / H, V vocabulary.
Values are matrices [rows, features]; attention scores and probabilities are [H, T, S].

The causal triangle: query row t of T sees keys 0 .. S - T + t. Only those entries of scores and probabilities are live;
the others are zero by definition, no operation reads them, and an engine need not compute them. `aero.graph.count`
counts live entries alone.
`aero.graph.interpret` gives each operation its one authoritative meaning in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Shape = tuple[int, ...]
Attrs = Mapping[str, int | float | str]


@dataclass(frozen=True)
class OpSpec:
    """What a node of this operation must look like.

    num_inputs: how many values it reads.
    weights: names of the server's tensors that it takes, in order; a name that ends in "?" may be left out.
    attrs: names and types of its public constants; all are required.
    optional: names and types of constants that may be left out.
    shape: (input shapes, weight shapes, attrs) -> output shape; raises ValueError when they do not fit.
    nonlinear: whether a two-party engine needs an interactive protocol beyond products.
    """

    num_inputs: int
    shape: Callable[[list[Shape], list[Shape], Attrs], Shape]
    weights: tuple[str, ...] = ()
    attrs: Mapping[str, type] = field(default_factory=dict)
    optional: Mapping[str, type] = field(default_factory=dict)
    nonlinear: bool = False

    @property
    def min_weights(self) -> int:
        return sum(not name.endswith("?") for name in self.weights)


def _need(condition: bool, what: str) -> None:
    if not condition:
        raise ValueError(what)


def _embedding(inputs: list[Shape], weights: list[Shape], _: Attrs) -> Shape:
    _need(len(inputs[0]) == 1, f"embedding reads token ids of shape [T], not {inputs[0]}")
    _need(len(weights[0]) == 2, f"an embedding table has shape [V, d], not {weights[0]}")
    return (inputs[0][0], weights[0][1])


def _linear(inputs: list[Shape], weights: list[Shape], _: Attrs) -> Shape:
    (x,), w = inputs, weights[0]
    _need(len(x) == 2 and len(w) == 2 and x[1] == w[0], f"linear cannot multiply {x} by {w}")
    _need(len(weights) == 1 or weights[1] == (w[1],), f"a bias for {w} has shape [{w[1]}], not {weights[1:]}")
    return (x[0], w[1])


def _broadcast(inputs: list[Shape], weights: list[Shape], _: Attrs) -> Shape:
    x, w = inputs[0], weights[0]
    _need(
        len(x) == 2 and w in ((), (x[1],), x),
        f"{w} does not broadcast over {x}: scalar, [features] or [rows, features]",
    )
    return x


def _add(inputs: list[Shape], _w: list[Shape], _: Attrs) -> Shape:
    _need(inputs[0] == inputs[1], f"add needs equal shapes, not {inputs[0]} and {inputs[1]}")
    return inputs[0]


def _same(inputs: list[Shape], _w: list[Shape], _: Attrs) -> Shape:
    return inputs[0]


def _same_matrix(inputs: list[Shape], _w: list[Shape], _: Attrs) -> Shape:
    _need(len(inputs[0]) == 2, f"expected [rows, features], not {inputs[0]}")
    return inputs[0]


def _gelu(inputs: list[Shape], weights: list[Shape], attrs: Attrs) -> Shape:
    form = attrs.get("form", "tanh")
    _need(form in ("tanh", "erf"), f"gelu has the form tanh or erf, not {form!r}")
    return _same_matrix(inputs, weights, attrs)


def _rotary(inputs: list[Shape], _w: list[Shape], attrs: Attrs) -> Shape:
    x, heads, rotated = inputs[0], int(attrs["heads"]), int(attrs["rotated"])
    base, start = float(attrs["base"]), int(attrs["start"])
    _need(len(x) == 2 and heads > 0 and x[1] % heads == 0, f"{heads} heads do not divide {x}")
    _need(
        2 <= rotated <= x[1] // heads and rotated % 2 == 0,
        f"{rotated} features of {x[1] // heads} cannot turn: an even number of them does",
    )
    _need(
        1 < base < math.inf and 0 <= start < 1 << 32, f"rotary needs a base above 1 and a position, not {base}, {start}"
    )
    return x


def _scores(inputs: list[Shape], _w: list[Shape], attrs: Attrs) -> Shape:
    q, k = inputs
    heads = int(attrs["heads"])
    _need(len(q) == 2 and len(k) == 2 and q[1] == k[1], f"queries {q} and keys {k} differ in width")
    _need(heads > 0 and q[1] % heads == 0, f"{heads} heads do not divide a width of {q[1]}")
    _need(k[0] >= q[0], f"{q[0]} queries over {k[0]} keys: causal attention needs at least as many keys")
    return (heads, q[0], k[0])


def _softmax(inputs: list[Shape], _w: list[Shape], attrs: Attrs) -> Shape:
    x = inputs[0]
    _need(len(x) == 3 and x[2] >= x[1], f"causal softmax reads scores [H, T, S] with S >= T, not {x}")
    _need(float(attrs.get("base", 2.0)) == 2.0, f"causal softmax has base e, or base=2.0, not {attrs.get('base')}")
    return x


def _attend(inputs: list[Shape], _w: list[Shape], _: Attrs) -> Shape:
    p, v = inputs
    _need(len(p) == 3 and len(v) == 2 and p[2] == v[0], f"probabilities {p} do not fit values {v}")
    _need(v[1] % p[0] == 0, f"{p[0]} heads do not divide a width of {v[1]}")
    return (p[1], v[1])


def _concat_rows(inputs: list[Shape], _w: list[Shape], _: Attrs) -> Shape:
    x, y = inputs
    _need(len(x) == 2 and len(y) == 2 and x[1] == y[1], f"rows of {x} and {y} differ in width")
    return (x[0] + y[0], x[1])


def _rows(inputs: list[Shape], _w: list[Shape], attrs: Attrs) -> Shape:
    x, start, stop = inputs[0], int(attrs["start"]), int(attrs["stop"])
    _need(len(x) == 2 and 0 <= start < stop <= x[0], f"rows {start}:{stop} are not in {x}")
    return (stop - start, x[1])


OPS: Mapping[str, OpSpec] = {
    # ids [T], table [V, d] -> [T, d].  The client knows the ids, the server the table.
    "embedding": OpSpec(1, _embedding, weights=("table",)),
    # x [T, k], w [k, m], b [m] -> x w + b
    "linear": OpSpec(1, _linear, weights=("w", "b?")),
    # x * w and x + w, with w the server's: a scalar, [features] or [rows, features]
    "gain": OpSpec(1, _broadcast, weights=("w",)),
    "bias": OpSpec(1, _broadcast, weights=("w",)),
    # x * factor, with a public factor
    "scale": OpSpec(1, _same, attrs={"factor": float}),
    "add": OpSpec(2, _add),
    # (x - mean) / sqrt(variance + eps) over features; gain and bias are nodes of their own
    "layer_norm": OpSpec(1, _same_matrix, attrs={"eps": float}, nonlinear=True),
    # x / sqrt(mean of squares + eps) over features: layer_norm of rows whose mean is zero
    "rms_norm": OpSpec(1, _same_matrix, attrs={"eps": float}, nonlinear=True),
    "relu": OpSpec(1, _same_matrix, nonlinear=True),
    # GPT-2's tanh form, or form="erf", the exact one
    "gelu": OpSpec(1, _gelu, optional={"form": str}, nonlinear=True),
    # queries or keys, features of each head turned by public angles: `aero.graph.rotary`; row t has position start + t
    "rotary": OpSpec(1, _rotary, attrs={"heads": int, "rotated": int, "base": float, "start": int}),
    # queries [T, d], keys [S, d] -> [H, T, S]: q_h k_h^T for each head, unscaled
    "scores": OpSpec(2, _scores, attrs={"heads": int}),
    # base^(score - log_base of the row's sum); base is e, or 2 where it is given: an engine may work in powers of two
    "causal_softmax": OpSpec(1, _softmax, optional={"base": float}, nonlinear=True),
    # probabilities [H, T, S], values [S, d] -> [T, d], heads side by side
    "attend": OpSpec(2, _attend),
    # x[start:stop], public bounds
    "rows": OpSpec(1, _rows, attrs={"start": int, "stop": int}),
    # the rows of x, then those of y
    "concat_rows": OpSpec(2, _concat_rows),
}
