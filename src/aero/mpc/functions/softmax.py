"""Causal softmax on shares: probabilities 2^(s - m - L), L = log2 of the row's sum of 2^(s - m), m near its maximum.

s: scores, f fractional bits. A row's *reach* R is how far below its maximum a score still counts. Numbers of steps are
those of `rounds`; p is a field in which 2 has the order 2^13 (exp2.py), G the ciphertexts of a bank (causal_rows.py).

1. [m]: tournament over each row's coarse scores, of steps of 2^-2 or so: compare, multiplex, level by level.
2. [c] = [m - s <= R], again on coarse scores. [x] = [s - m] minus one step, so that x <= 0.
3. Client: draws its share of L, l_0, uniform. Sends encryptions of u = 2^(x_0 - l_0), of c_0 u, and of 2^(whole part of
   l_0); every row keeps its slots in all G ciphertexts of a kind.                                   client -> server
4. Server: multiplies by powers of x_1, so that c u_0 u_1 comes out, and adds up over ciphertexts: one response, its own
   share of which it multiplies to the whole part of l_0: a second one.                              server -> client
5. [S], S the sum over a row of c 2^x, times 2^-(fraction of l_0): from the field, one number for each slot, summed.
   [L] = [log2 S], the client adding the fraction.
6. Client: sends [L]_0 - l_0, and the server's share is l_1 = L - l_0.                               client -> server
7. Server: multiplies the same ciphertexts by powers of x_1 - l_1: c 2^(x - L), G responses.         server -> client
8. From the field into the ring of the result.

What is below the reach is 0, exactly, and counts for nothing in S; dead scores are 0 in both shares. Errors, costs and
the argument for privacy: docs/security/softmax.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np

from aero.kernels import bitpack
from aero.kernels.slots import P50, SLOTS, Field
from aero.mpc.cost import ProtocolCost, message
from aero.mpc.fixed_point import reduce_ring
from aero.mpc.functions.causal_rows import CausalRows, Slots, plan_slots
from aero.mpc.functions.exp2 import Exponential, kept_power
from aero.mpc.functions.rows import LOG2_SCALE, Log2Plan, log2, plus
from aero.mpc.ot.transfer import Bits, products_cost
from aero.mpc.party import Party, Role, parse
from aero.mpc.protocols.compare import negative, negative_cost
from aero.mpc.protocols.extend import field_shapes, from_field, from_field_cost
from aero.mpc.protocols.ole import (
    Product,
    SlotUpload,
    encrypt_slots,
    multiply_many,
    product_cost,
    upload_cost,
)
from aero.mpc.protocols.select import multiplex, multiplexing_shapes, not_bits
from aero.mpc.share import Share, Words

MAX_FRACTION_BITS = 14
"""Of exponents; more bits of scores are dropped."""
COARSE_FRACTION = 2
"""Of coarse scores."""
MAX_GROUPS = 16
"""Ciphertexts whose products are summed."""
_FACTOR_FRACTION = 18
_SUM_FRACTION = 20
_SUM_LOW = -2
"""S is at least 2^-1.5: the largest of a row is at most two coarse steps below 0, and its power is scaled by the
fraction of l_0."""


@dataclass(frozen=True)
class SoftmaxPlan:
    """What both parties must agree on, from public sizes alone. `plan_softmax` makes it.

    score_bits: scores lie in a ring of so many bits, a coarse step from its ends. input_fraction: of scores.
    base: 2.0 or e. power: how exponentials are shared.
    """

    rows: CausalRows
    slots: Slots
    power: Exponential
    score_bits: int
    input_fraction: int
    output_bits: int
    output_fraction: int
    base: float

    def __post_init__(self) -> None:
        if self.input_bits > 64:
            raise ValueError(f"softmax needs scores in a ring of {self.input_bits} bits: give them fewer fractional bits")
        if self.output_fraction > self.result_bits or not self.output_fraction + 2 <= self.output_bits <= 64:
            raise ValueError(
                f"probabilities do not fit {self.output_bits} bits with {self.output_fraction} fractional ones: use "
                f"at most {self.result_bits} fractional bits, and two more in all"
            )

    # Rings

    @property
    def client_keys(self) -> tuple[Field, ...]:
        return (self.power.field,)

    @property
    def server_keys(self) -> tuple[Field, ...]:
        return ()

    @property
    def dropped(self) -> int:
        """Bits that scores lose before anything else."""
        gained = 0 if self.base == 2.0 else _FACTOR_FRACTION
        return self.input_fraction + gained - self.power.fraction_bits

    @property
    def difference_bits(self) -> int:
        """The ring in which the difference of two scores, in base 2, fits."""
        grown = 0 if self.base == 2.0 else 1
        return self.score_bits + 1 + grown - (self.input_fraction - self.power.fraction_bits)

    @property
    def held_bits(self) -> int:
        """The ring of scores in base 2."""
        return max(self.difference_bits, self.power.ring_bits)

    @property
    def input_bits(self) -> int:
        """The ring in which scores are wanted: with a bit more than they need, for differences."""
        return self.held_bits + self.dropped

    # Coarse scores

    @property
    def coarse_dropped(self) -> int:
        return max(self.power.fraction_bits - COARSE_FRACTION, 0)

    @property
    def coarse_bits(self) -> int:
        """Of the ring in which coarse scores are compared."""
        return self.difference_bits - self.coarse_dropped

    @property
    def step(self) -> float:
        """Of coarse scores."""
        return 2.0 ** (self.coarse_dropped - self.power.fraction_bits)

    # Ranges of exponents

    @cached_property
    def largest(self) -> int:
        """The exponent of a probability of 1."""
        return math.floor(self.power.largest(excess=2.0**-9))

    @cached_property
    def largest_of_sum(self) -> int:
        """The exponent of a term of S that is 1."""
        terms = min(self.slots.groups, self.rows.keys) * LOG2_SCALE
        return math.floor(self.power.largest(terms, excess=2.0**-9))

    @property
    def result_bits(self) -> int:
        """Fractional bits of a probability in the field."""
        return self.largest + self.power.scale_bits

    @cached_property
    def reach(self) -> np.ndarray:
        """R of each row, in base 2, [rows]: all x from -R to 0 have exponents in range."""
        last = np.minimum(self.largest - 1 - np.log2(self.rows.lengths), self.largest_of_sum - 2)
        return np.floor(last / self.step) * self.step - 2 * self.step

    @cached_property
    def log(self) -> Log2Plan:
        high = max(math.ceil(math.log2(self.rows.keys)), 1)
        f = self.power.fraction_bits
        return Log2Plan(self.rows.rows, _SUM_LOW, high, _SUM_FRACTION, self.power.ring_bits, f)

    @property
    def error(self) -> float:
        """Bounds the error of a probability, for scores as they are given, but for `missed`."""
        f = self.power.fraction_bits
        roundings = 2 * self.power.error + math.log(2) * (self.log.error + 2.0 ** (1 - f))
        sums = self.slots.taken.max() * 2.0 ** (0.5 - _SUM_FRACTION)
        return float(roundings + sums + 2.0**-self.output_fraction)

    @property
    def missed(self) -> float:
        """Bounds the share of a row's sum that scores below the reach could have had."""
        return float((self.rows.lengths * 2.0 ** -(self.reach - self.step)).max())

    def cost(self) -> ProtocolCost:
        rows, slots, field = self.rows, self.slots, self.power.field
        wide = self.held_bits - self.coarse_dropped
        total = ProtocolCost()
        for level in rows.tournament:
            games = level.left.size
            total += negative_cost(games, self.coarse_bits) + products_cost(multiplexing_shapes(games, wide))
        total += negative_cost(rows.entries, self.coarse_bits)
        total += upload_cost(Role.CLIENT, field, len(slots.banks) * (2 * slots.groups + 1))
        for _ in slots.banks:
            total |= ProtocolCost()
        return total


def plan_softmax(
    heads: int,
    queries: int,
    keys: int,
    *,
    input_bits: int,
    input_fraction: int,
    output_bits: int,
    output_fraction: int,
    base: float = 2.0,
) -> SoftmaxPlan:
    """Scores [heads, queries, keys] in a ring of `input_bits`, query t seeing the keys 0 .. keys - queries + t, to
    probabilities. base: 2.0, or math.e."""
    raise NotImplementedError
