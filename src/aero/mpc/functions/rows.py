"""Functions of one number for each row, after a sum over it: few numbers, so that bytes matter less than rounds.

`log2`, for 2^low <= x <= 2^high; for a smaller x the result is too large:

1. [n_j] = [x < 2^(high - j)] for j = 1 .. high - low - 1: comparisons of the upper bits, all at once.
2. [m] = [x] 2^-high + sum over j of [n_j] [x] 2^(j - 1 - high), between 1/2 and 1 but for the coarse comparisons: each
   n_j doubles. [n] = sum of [n_j].                                                                          1 round
   Where the ring is too small to drop bits of m and keep enough for the square, what is left is extended.   1 round
3. [log2 m] by a polynomial of degree 4: a square, and a product.                                            2 rounds
4. Into the ring of the result; [log2 x] = high - [n] + [log2 m].                                            1 round

The polynomial is minimax on [0.4955, 1.0085], off by 9.91e-5, in t = `LOG2_SCALE` m - c, where its leading coefficient
is -1: -t^2 (t^2 - a t + b) + d t + e, so that nothing has to be multiplied but t by public numbers. Whoever makes x
scales it: `log2` takes `LOG2_SCALE` x.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aero.mpc.cost import ProtocolCost
from aero.mpc.ot.transfer import products_cost, together
from aero.mpc.party import Party
from aero.mpc.plan import FunctionPlan, Reads, TransfersAlone
from aero.mpc.protocols.compare import negative, negative_cost
from aero.mpc.protocols.extend import extend, extend_cost
from aero.mpc.protocols.multiply import multiply, multiply_cost, square, square_cost
from aero.mpc.protocols.select import arithmetic, arithmetic_shapes, multiplexing, multiplexing_shapes
from aero.mpc.share import Share

LOG2_SCALE = 1.067940912931696
LOG2_ERROR = 9.92e-5
"""Of the polynomial; roundings come on top (`Log2Plan.max_error`)."""
_CENTRE = 0.75 * LOG2_SCALE
_A, _B, _D, _E = 1.02579647, 1.12016925, 1.79948026, -0.41506219
_POINT = 16
"""Fractional bits of t."""
_RESOLUTION = 7
"""Comparisons with 2^k are off by less than 2^(k - 7)."""


@dataclass(frozen=True)
class Log2Plan(TransfersAlone[[Share], Share], FunctionPlan):
    """[log2 x], from [`LOG2_SCALE` x].

    count: numbers. low, high: 2^low <= x <= 2^high (1 + 2^-7). input_fraction: of x times `LOG2_SCALE`.
    output_bits, output_fraction: of log2 x.
    """

    count: int
    low: int
    high: int
    input_fraction: int
    output_bits: int
    output_fraction: int

    def __post_init__(self) -> None:
        if not self.low + 1 < self.high or self.input_fraction < _RESOLUTION - self.low:
            raise ValueError(
                f"cannot take log2 from 2^{self.low} to 2^{self.high}: use a wider range, or finer numbers"
            )
        if not 1 <= self.output_fraction <= 2 * _POINT or self.output_bits <= self.output_fraction + 2:
            raise ValueError(f"log2 does not fit {self.output_bits} bits with {self.output_fraction} fractional ones")
        if self.input_bits > 64:
            raise ValueError(f"log2 needs a ring of {self.input_bits} bits: give {self.input_bits - 64} bits fewer")

    @property
    def dropped(self) -> int:
        """Bits of m that t does without."""
        return self.input_fraction + self.high - _POINT

    @property
    def product_bits(self) -> int:
        return 2 * _POINT + 2

    @property
    def square_bits(self) -> int:
        return self.product_bits + _POINT

    @property
    def extends(self) -> bool:
        """Whether t has to be extended for its square: no word holds that much of x."""
        return self.square_bits + self.dropped > 64

    @property
    def input_bits(self) -> int:
        """The ring of x."""
        return self.comparison_bits if self.extends else self.square_bits + self.dropped

    @property
    def comparison_bits(self) -> int:
        """The least ring that holds x times `LOG2_SCALE`, and after the drop t, at half of what it holds."""
        return self.input_fraction + self.high + 2

    @property
    def thresholds(self) -> int:
        return self.high - self.low - 1

    @property
    def coarse_dropped(self) -> int:
        return self.input_fraction - (_RESOLUTION - self.low - 1)

    @property
    def coarse_bits(self) -> int:
        return self.high + 2 + _RESOLUTION - self.low - 1

    @property
    def max_error(self) -> float:
        """Largest, of exact x: the polynomial, t by a step at the slope 2.8, t^2 and the result by a step each."""
        return LOG2_ERROR + 5.0 * 2.0**-_POINT + 2.0**-self.output_fraction

    def cost(self) -> ProtocolCost:
        rows, doublings = self.count, self.count * self.thresholds
        whole_bits = self.output_bits - self.output_fraction
        doubled = multiplexing_shapes(doublings, self.input_bits) + arithmetic_shapes(doublings, whole_bits)
        normalised = negative_cost(doublings, self.coarse_bits) + products_cost(doubled)
        if self.extends:
            normalised += extend_cost(rows, self.input_bits - self.dropped, self.square_bits)
        return (
            normalised
            + square_cost(rows, self.square_bits)
            + multiply_cost(rows, self.product_bits)
            + extend_cost(rows, self.output_fraction + 2, self.output_bits)
        )

    @property
    def reads(self) -> Reads:
        return Reads((self.count,), self.input_bits, self.input_fraction)

    def _run(self, party: Party, x: Share) -> Share:
        j = np.arange(1, self.thresholds + 1)
        coarse = x.reduced(self.comparison_bits).truncated(self.coarse_dropped)
        repeated = coarse.of(np.repeat(coarse.values[None], self.thresholds, axis=0))
        smaller = negative(party, plus(party, repeated, -LOG2_SCALE * 2.0 ** (self.high - j)[:, None]))

        gains = x.of(x.values << (j - 1).astype(np.uint64)[:, None])
        whole_bits = self.output_bits - self.output_fraction
        doubled, count = together(party, multiplexing(party, smaller, gains), arithmetic(party, smaller, whole_bits))
        m = x.of(x.values + doubled.values.sum(axis=0), fraction_bits=self.input_fraction + self.high)

        t = plus(party, m.truncated(self.dropped), -_CENTRE)
        if self.extends:
            t = extend(party, t, self.square_bits)
        squared = square(party, t, self.square_bits).truncated(_POINT)
        inner = squared - t.times(round(_A * 2**_POINT), _POINT).truncated(_POINT)
        product = multiply(party, squared, plus(party, inner, _B), self.product_bits)
        linear = t.times(round(_D * 2**_POINT), _POINT).reduced(self.product_bits)
        near = plus(party, linear - product, _E + 0.5).truncated(2 * _POINT - self.output_fraction)

        extended = plus(party, extend(party, near, self.output_bits), self.high - 0.5)
        return extended.of(extended.values - (count.values.sum(axis=0) << np.uint64(self.output_fraction)))


def plus(party: Party, x: Share, numbers: float | np.ndarray) -> Share:
    """[x + c] for public numbers c, rounded to the steps of x: the client adds them to its part."""
    if not party.is_client:
        return x
    steps = np.rint(np.multiply(numbers, 2.0**x.fraction_bits)).astype(np.int64)
    return x.of(x.values + steps.view(np.uint64))
