"""[max(x, 0)].

1. A coarse [x]: reduced to the ring that x is known to fit, and cut to `sign_fraction` fractional bits. Local.
2. [x < 0] of that (protocols/compare.py).
3. [y] = [(not x < 0) x], x cut to the output's format: one multiplexer.

Functionality: y = x for x >= 0 and 0 for x < 0, but that x may be taken for positive where -2^-sign_fraction < x < 0;
rounded to the output's format with an error of at most one unit of its last place. So |y - max(x, 0)| is below
2^-sign_fraction plus that unit (`ReluPlan.max_error`). x has to stay 2^-sign_fraction below the upper end of its ring,
where a coarse x would come out negative.

3 rounds and one for each doubling of the number of 4-bit digits compared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from aero.mpc.cost import ProtocolCost
from aero.mpc.ot.transfer import products_cost
from aero.mpc.party import Party
from aero.mpc.plan import FunctionPlan, Reads, TransfersAlone
from aero.mpc.protocols.compare import DIGIT_BITS, negative, negative_cost
from aero.mpc.protocols.select import multiplex, multiplexing_shapes, not_bits
from aero.mpc.share import Share

SIGN_FRACTION = 10
"""Fractional bits that decide on the sign, at least, where the input has so many and nobody asks for others."""


@dataclass(frozen=True)
class ReluPlan(TransfersAlone[[Share], Share], FunctionPlan):
    """shape: of x. value_bits: x, with its `input_fraction` fractional bits, fits the ring of 2^value_bits.
    input_bits: the ring in which x is wanted. sign_fraction: fractional bits that decide on the sign."""

    shape: tuple[int, ...]
    value_bits: int
    input_bits: int
    input_fraction: int
    output_bits: int
    output_fraction: int
    sign_fraction: int

    def __post_init__(self) -> None:
        if not 0 <= self.input_fraction < self.value_bits <= self.input_bits <= 64:
            raise ValueError(
                f"x of {self.value_bits} bits with {self.input_fraction} fractional ones fits no ring here"
            )
        if not 0 <= self.sign_fraction <= self.input_fraction:
            raise ValueError(f"the sign cannot be taken from {self.sign_fraction} of {self.input_fraction} bits")
        if not 0 <= self.output_fraction < self.output_bits <= 64:
            raise ValueError(f"no ring of {self.output_bits} bits has {self.output_fraction} fractional ones")

    @property
    def sign_bits(self) -> int:
        """The ring of the comparison."""
        return self.value_bits - (self.input_fraction - self.sign_fraction)

    @property
    def max_error(self) -> float:
        dropped = self.input_fraction > self.output_fraction
        wrong_sign = self.sign_fraction < self.input_fraction
        return wrong_sign * 2.0**-self.sign_fraction + dropped * 2.0**-self.output_fraction

    def cost(self) -> ProtocolCost:
        count = math.prod(self.shape)
        return negative_cost(count, self.sign_bits) + products_cost(multiplexing_shapes(count, self.output_bits))

    @property
    def reads(self) -> Reads:
        return Reads(self.shape, self.input_bits, self.input_fraction)

    def _run(self, party: Party, x: Share) -> Share:
        coarse = x.reduced(self.value_bits).truncated(self.input_fraction - self.sign_fraction)
        kept = not_bits(party, negative(party, coarse))
        gained = self.output_fraction - self.input_fraction
        if gained > 0:  # x modulo 2^l, times 2^gained, counts modulo 2^(l + gained)
            value = x.of(x.values << np.uint64(gained), bits=self.output_bits, fraction_bits=self.output_fraction)
        else:
            value = x.truncated(-gained).reduced(self.output_bits)
        return multiplex(party, kept, value)


def plan_relu(
    shape: tuple[int, ...],
    input_bits: int,
    input_fraction: int,
    output_bits: int,
    output_fraction: int,
    *,
    sign_fraction: int | None = None,
) -> ReluPlan:
    """`sign_fraction`: by default as many as whole digits of the comparison give, at least SIGN_FRACTION."""
    if sign_fraction is None:
        compared = input_bits - 1 - input_fraction + min(SIGN_FRACTION, input_fraction)
        whole = math.ceil(compared / DIGIT_BITS) * DIGIT_BITS
        sign_fraction = min(input_fraction, whole - (input_bits - 1 - input_fraction))
    gained = output_fraction - input_fraction
    wanted = max(input_bits, output_bits - gained)
    return ReluPlan(shape, input_bits, wanted, input_fraction, output_bits, output_fraction, sign_fraction)
