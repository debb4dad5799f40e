"""What is known of an operation, each fact once: the compiler, the cost model and the engines read it here.

No fact has a default, so an operation that leaves one out fails when its file is imported.

Shapes, throughout:  T query rows, S key rows, d features, H heads, d_k = d / H, V vocabulary.
Values are matrices [rows, features]; attention scores and probabilities are [H, T, S], of which only the live entries
count (`aero.graph.heads`): the others are zero by definition, no operation reads them, an engine need not compute them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal

import numpy as np

from aero.graph.heads import CAUSAL, MASKS

Array = np.ndarray
Shape = tuple[int, ...]
Attrs = Mapping[str, int | float | str]
Shapes = list[Shape]


# --- what it asks of arithmetic on integers -------------------------------------------------------------------------


@dataclass(frozen=True)
class LookUp:
    """Rows of the server's table, which the client's ids choose."""


@dataclass(frozen=True)
class Sum:
    """Of values, or of a value and the server's weights, in one format; no product."""


@dataclass(frozen=True)
class Move:
    """Numbers change their places, and keep their format. of: what is moved whole; features of two values that stand
    side by side are held in the ring that who reads them needs."""

    of: Literal["rows", "features"]


@dataclass(frozen=True)
class Function:
    """Not linear in shared values: a two-party engine needs an interactive protocol beyond products.

    of: what it is a function of: each number alone, each row, or the live entries of each row of scores.
    """

    of: Literal["number", "row", "live row"]


@dataclass(frozen=True)
class Product:
    """Linear in each of two factors, so that it can be computed on integers and truncated.

    form: (factors, **attrs) -> the product without what is added to it, on arrays of any type of number.
    terms: (shapes of inputs, shapes of weights, attrs) -> scalar products in it, those of entries that are not live
    included.
    """

    form: Callable[..., Array]
    terms: Callable[[Shapes, Shapes, Attrs], int]


@dataclass(frozen=True)
class WeightProduct(Product):
    """The factors are the value and the server's first weight; a second weight is added.

    whole: whether the weight is a whole matrix, every feature of the value being read for every one of the result: such
    products of one value go together, side by side, and hide the noise of products before them. Otherwise every feature
    has a factor of its own, as with a diagonal; or every number has its own.
    """

    whole: bool


@dataclass(frozen=True)
class SharedProduct(Product):
    """The factors are both values: of every head a product of matrices, over live entries alone.

    factors: (values, **attrs) -> [H / G, T G, k] and [H / G, k, m], G heads of queries for each of keys and values.
    joined: (their product [H / G, T G, m], **attrs) -> the value.
    sizes: (shapes of inputs, attrs) -> H / G, G, T, S, d_k. keys: which dimension of the product the S keys are.
    All are for arrays of any type of number.
    """

    factors: Callable[..., tuple[Array, Array]]
    joined: Callable[..., Array]
    sizes: Callable[[Shapes, Attrs], tuple[int, int, int, int, int]]
    keys: Literal["inner", "columns"]


@dataclass(frozen=True)
class ElementProduct(Product):
    """The factors are both values, and multiplied number by number."""


@dataclass(frozen=True)
class PublicProduct(Product):
    """The factors are the value and public numbers.

    constants: (shape of the value, **attrs) -> those numbers. computed: whether a machine may round them in its own
    way, so that two parties have to compare theirs; not where they are attributes. finer: fractional bits that they
    have beyond the value's.
    """

    constants: Callable[..., tuple[Array, ...]]
    computed: bool
    finer: int


Arithmetic = LookUp | Sum | Move | Function | WeightProduct | SharedProduct | ElementProduct | PublicProduct


class Factor(Enum):
    """What becomes of a factor s > 0 of a matrix that an operation f reads."""

    PASSES = "f(s x) = s f(x)"
    WEIGHT = "the first weight takes it in"
    EPS = "f(s x) with eps is f(x) with eps / s^2"
    TERM = "f(s x, y) = s f(x, y / s)"
    STAYS = "none of these"


# --- the sheet ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """One operation.

    inputs: how many values it reads.
    weights: names of the server's tensors that it takes, in order; a name that ends in "?" may be left out.
    attrs: names and types of its public constants; all are required.
    optional: names and types of constants that may be left out.
    shape: (shapes of inputs, shapes of weights, attrs) -> shape of the value; ValueError where they do not fit.
    meaning: (*inputs, *weights, **attrs) -> the value, in float64: the referee of every rewrite and every engine.
    arithmetic: what it asks of an engine, and of a cost model.
    bound: (*bounds, *magnitudes of weights, **attrs) -> a bound of the value's magnitude for any text, from such bounds
    of its inputs (ids have none); each bound is of every feature [d], of scores and probabilities of every head [H].
    magnitude: (value, *inputs, *weights, **attrs) -> what the rounding of each entry is relative to: for a sum, the sum
    of the magnitudes of its terms.
    row_by_row: whether f(x)[rows] = f(x[rows]) for all matrices that it reads, and weights that have rows.
    factor: what becomes of a positive factor of what it reads.
    precision: the kind of tensor that its value is, each of which has its own number of fractional bits.
    error_steps: steps of its last place by which an engine's value may be off, given what it computes it from.
    """

    inputs: int
    weights: tuple[str, ...]
    attrs: Mapping[str, type]
    optional: Mapping[str, type]
    shape: Callable[[Shapes, Shapes, Attrs], Shape]
    meaning: Callable[..., Array]
    arithmetic: Arithmetic
    bound: Callable[..., Array]
    magnitude: Callable[..., Array]
    row_by_row: bool
    factor: Factor
    precision: Literal["activation", "score", "probability"]
    error_steps: int

    @property
    def min_weights(self) -> int:
        return sum(not name.endswith("?") for name in self.weights)

    @property
    def factors(self) -> int:
        """How many of the weights are not added to the value: a matrix, a table, none of a sum."""
        return 0 if isinstance(self.arithmetic, Sum) else 1

    @property
    def nonlinear(self) -> bool:
        return isinstance(self.arithmetic, Function)


# --- rules that several operations share ----------------------------------------------------------------------------


def need(condition: bool, what: str) -> None:
    if not condition:
        raise ValueError(what)


def mask_of(attrs: Attrs) -> str:
    """Of scores, probabilities and their product with values. ValueError for none of `MASKS`."""
    mask = str(attrs.get("mask", CAUSAL))
    need(mask in MASKS, f"attention has a mask of {', '.join(MASKS)}, not {mask!r}")
    return mask


def same_shape(inputs: Shapes, weights: Shapes, attrs: Attrs) -> Shape:
    return inputs[0]


def same_matrix(inputs: Shapes, weights: Shapes, attrs: Attrs) -> Shape:
    need(len(inputs[0]) == 2, f"expected [rows, features], not {inputs[0]}")
    return inputs[0]


def broadcast(inputs: Shapes, weights: Shapes, attrs: Attrs) -> Shape:
    x, w = inputs[0], weights[0]
    need(
        len(x) == 2 and w in ((), (x[1],), x),
        f"{w} does not broadcast over {x}: scalar, [features] or [rows, features]",
    )
    return x


def over_rows(w: Array) -> Array:
    """The largest of each feature, of a weight that broadcasts over rows."""
    largest: Array = w.max(axis=0) if w.ndim == 2 else w
    return largest


def own_magnitude(value: Array, *read: Array, **attrs: Any) -> Array:
    """One rounding, of the result."""
    return np.abs(value)


def never_larger(x: Array, **attrs: Any) -> Array:
    """The bound of what is not larger, in magnitude, than what it reads."""
    return x
