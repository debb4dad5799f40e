"""[1 / sqrt(V)], for few numbers V whose range is public: one for each row of a norm.

V is an integer from `lowest` to `highest`. With k from k_0 to k_1 the powers of 4 in that range:

1. [V < 4^k] for all k at once (protocols/compare.py).
2. n = V 4^(k_1 - floor(log_4 V)), from 4^k_1 to 4^(k_1 + 1): V + sum over k of 3 4^(k_1 - k) [V < 4^k] V, multiplexers.
3. The parts of n are cut at the same bit, into parts of an 8-bit index i, and of a rest d, which are added as numbers:
   n = i step + d with 0 <= d < 2 step, so that no carry has to be known.
4. a_i and b_i from a public table (protocols/multiply.py), the line a_i - b_i d closest to 1 / sqrt(n) over the two
   steps. At the same time [d s], where s = 2^(k_1 - floor(log_4 V)) = 1 + sum over k of 2^(k_1 - k) [V < 4^k].
5. r = a s - b (d s): multiplexers and one product.

Functionality: `factor` 2^fraction_bits / sqrt(V), with a relative error of at most `MAX_RELATIVE_ERROR`: 2^-14.4 from
the lines, the rest from rounding. A V outside its range gives a number without meaning.

4 rounds and a comparison's, 2 + log2 of the number of digits: 10 for up to 60 bits; [d s] shares one with the table.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from aero.mpc.cost import ProtocolCost
from aero.mpc.fixed_point import reduce_ring
from aero.mpc.ot.transfer import OneRound, ProductShape, products_cost, together
from aero.mpc.party import Party, Role
from aero.mpc.plan import FunctionPlan, Reads, TransfersAlone
from aero.mpc.protocols.compare import negative, negative_cost
from aero.mpc.protocols.multiply import look_up, look_up_cost, multiplication, multiply_shapes
from aero.mpc.protocols.select import multiplexing, multiplexing_shapes
from aero.mpc.share import Share, Words, known

INDEX_BITS = 8
MAX_RELATIVE_ERROR = 2.0**-13
MANTISSA_BITS = 16
"""Of a result for the largest V."""
REST_BITS = 12
SLOPE_BITS = 12
"""More bits that lines are computed with than their result keeps."""


@dataclass(frozen=True)
class InverseSqrtPlan(TransfersAlone[[Share], Share], FunctionPlan):
    """count: of numbers. lowest, highest: of V, at least 1. factor: from 1 to 2, that results are multiplied by.

    V has no fractional bits; results are in the ring of `output_bits`.
    """

    count: int
    lowest: int
    highest: int
    factor: float

    def __post_init__(self) -> None:
        if not 1 <= self.lowest <= self.highest < 1 << 60:
            raise ValueError(f"V from {self.lowest} to {self.highest}: give a range within 1 and 2^60")
        if not 1 <= self.factor <= 2:
            raise ValueError(f"the factor is from 1 to 2, not {self.factor}: take out a power of two")

    @cached_property
    def powers(self) -> range:
        """The k for which V may lie on either side of 4^k."""
        return range(_log4(self.lowest) + 1, self.top + 1)

    @property
    def top(self) -> int:
        """k_1. Not so small that n would have fewer bits than the index and the rest."""
        return max(_log4(self.highest), (INDEX_BITS + REST_BITS) // 2)

    @property
    def mantissa_bits(self) -> int:
        """The ring of n."""
        return 2 * self.top + 2

    @property
    def input_bits(self) -> int:
        return self.mantissa_bits + 1

    @property
    def output_bits(self) -> int:
        """The ring of the result, which is positive and below a quarter of it."""
        return MANTISSA_BITS + 1 + len(self.powers) + 2

    @property
    def fraction_bits(self) -> int:
        return MANTISSA_BITS + self.top

    @property
    def work_bits(self) -> int:
        return self.output_bits + SLOPE_BITS

    @cached_property
    def table(self) -> Words:
        """a_i and b_i, uint64 [2^index_bits, 2]."""
        count, step = 1 << INDEX_BITS, 4.0 / (1 << INDEX_BITS)  # n 4^-k_1 lies between 1 and 4
        table = np.zeros((count, 2), np.uint64)
        scale = self.factor * 2.0 ** (MANTISSA_BITS + SLOPE_BITS)
        for i in range(count // 4 - 1, count):  # a carry that was left out may make the index smaller by 1
            value, slope = _line(step * i, step * (i + 2))
            table[i] = round(scale * value), round(scale * slope * step / (1 << REST_BITS))
        return table

    def cost(self) -> ProtocolCost:
        total = negative_cost(self.count * len(self.powers), self.input_bits) if self.powers else ProtocolCost()
        if self.powers:
            total += products_cost(self._scaling_shapes(self.mantissa_bits, 2))
        total += look_up_cost(self.count, INDEX_BITS, (self.work_bits, self.work_bits))
        if self.powers:
            total += products_cost(self._scaling_shapes(self.work_bits, 1))
        shapes = multiply_shapes(self.count, self.work_bits) + self._scaling_shapes(self.work_bits, 1)
        return total + products_cost(shapes)

    def _scaling_shapes(self, bits: int, by: int) -> list[ProductShape]:
        shapes: list[ProductShape] = []
        for k in self.powers:
            shapes += multiplexing_shapes(self.count, bits - by * (self.top - k))
        return shapes

    @property
    def reads(self) -> Reads:
        return Reads((self.count,), self.input_bits, 0)

    def _run(self, party: Party, v: Share) -> Share:
        below = _below_powers(party, self, v)
        n = v.reduced(self.mantissa_bits)
        if self.powers:
            [n] = together(party, _scaling(party, self, below, n, 4))
        low_bits = self.mantissa_bits - INDEX_BITS
        index = Share(n.values >> np.uint64(low_bits), INDEX_BITS)
        # The parts of d are numbers, not residues: they count in any ring.
        rest = Share(reduce_ring(n.values, low_bits) >> np.uint64(low_bits - REST_BITS), self.work_bits)
        value, slope = look_up(party, index, self.table, (self.work_bits, self.work_bits))
        if self.powers:
            [rest] = together(party, _scaling(party, self, below, rest, 2))
        scaled, drop = together(
            party, _scaling(party, self, below, value, 2), multiplication(party, slope, rest, self.work_bits)
        )
        result = scaled - drop
        return result.of(result.values, fraction_bits=SLOPE_BITS).truncated(SLOPE_BITS)


def _below_powers(party: Party, plan: InverseSqrtPlan, v: Share) -> list[np.ndarray]:
    """XOR shares of [V < 4^k], for each k."""
    if not plan.powers:
        return []
    powers = np.array([[1 << 2 * k] for k in plan.powers], np.uint64)
    everywhere = np.broadcast_to(powers, (len(plan.powers), plan.count))
    threshold = known(party, Role.CLIENT, everywhere, v.bits)
    rows = v.of(np.broadcast_to(v.values, everywhere.shape).copy())
    return list(negative(party, rows - threshold))


def _scaling(party: Party, plan: InverseSqrtPlan, below: list[np.ndarray], x: Share, base: int) -> OneRound[Share]:
    """[x base^(k_1 - floor(log_4 V))] modulo 2^l: x + sum over k of (base - 1) base^(k_1 - k) [V < 4^k] x."""
    by = [int(math.log2(base)) * (plan.top - k) for k in plan.powers]
    parts = [multiplexing(party, bit, x.reduced(x.bits - up)) for bit, up in zip(below, by, strict=True)]

    def finish(shares: list[np.ndarray]) -> Share:
        total = x.values.copy()
        for i, (part, up) in enumerate(zip(parts, by, strict=True)):
            selected = part.finish(shares[2 * i : 2 * i + 2])
            total += (selected.values << np.uint64(up)) * np.uint64(base - 1)
        return x.of(total)

    return OneRound(tuple(product for part in parts for product in part.products), finish)


def _log4(n: int) -> int:
    return (n.bit_length() - 1) // 2


def _line(start: float, stop: float) -> tuple[float, float]:
    """value - slope t for t from 0 to stop - start, with a small error relative to 1 / sqrt(start + t): least squares
    over Chebyshev nodes, within a few percent of the smallest."""
    t = (stop - start) * (1 - np.cos(np.pi * (np.arange(64) + 0.5) / 64)) / 2
    weight = np.sqrt(start + t)
    columns = np.stack([weight, -weight * t], axis=1)
    value, slope = np.linalg.lstsq(columns, np.ones_like(t), rcond=None)[0]
    return float(value), float(slope)
