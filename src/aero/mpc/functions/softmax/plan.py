"""What both parties must agree on for a softmax: rings, ranges of exponents, errors and costs, from public sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import or_

import numpy as np

from aero.kernels.slots import P37, P50, SLOTS
from aero.mpc.cost import ProtocolCost
from aero.mpc.functions.exp2 import LEAST_DROPPED, Exponential
from aero.mpc.functions.rows import LOG2_SCALE, Log2Plan
from aero.mpc.functions.score_rows import ScoreRows, Slots, plan_slots
from aero.mpc.functions.softmax import protocol
from aero.mpc.functions.softmax.tournament import ROUND_BYTES, Tournament
from aero.mpc.functions.softmax.window import COARSE_FRACTION, SPAN, MaximaWindow
from aero.mpc.ot.transfer import products_cost
from aero.mpc.party import Party, Role
from aero.mpc.plan import FunctionPlan, KeyKinds, Reads
from aero.mpc.protocols.compare import negative_cost
from aero.mpc.protocols.extend import from_field_cost
from aero.mpc.protocols.ole import product_cost, upload_cost
from aero.mpc.protocols.select import arithmetic_shapes, multiplexing_shapes
from aero.mpc.share import Share

FRACTION_BITS = 14
"""Of exponents, whatever scores have."""
MAX_ONE_PRIME = 512
"""Longer rows need a wider range of exponents than a prime of 50 bits has for the same error: they take two."""
MAX_GROUPS = 16
"""Ciphertexts whose products are summed."""
LONG = 256
"""Of longer rows under one prime, half as many are summed: terms then have a bit more, and so the mantissas."""
_SUM_FRACTION = 20
_SUM_LOW = -1
"""S is at least 2^-1: the largest of a row is at most two coarse steps below 0."""
_EXCESS = 2.0**-9
"""More than the relative error of a probability or a sum: rings and fields hold probabilities that much above 1."""


@dataclass(frozen=True)
class SoftmaxPlan(FunctionPlan):
    """What both parties must agree on, from public sizes alone. `plan_softmax` makes it.

    score_bits: of the ring in which scores lie, at most `largest_score`. input_fraction: of scores.
    base: 2.0 or e. power: how exponentials are shared. window: None where maxima are taken.
    """

    rows: ScoreRows
    slots: Slots
    power: Exponential
    score_bits: int
    input_fraction: int
    output_bits: int
    output_fraction: int
    base: float
    window: MaximaWindow | None = None

    def __post_init__(self) -> None:
        if self.input_bits > 64:
            raise ValueError(
                f"softmax wants scores in a ring of {self.input_bits} bits: give them fewer fractional bits"
            )
        if self.output_fraction > self.result_bits or not self.output_fraction + 2 <= self.output_bits <= 64:
            raise ValueError(
                f"probabilities do not fit {self.output_bits} bits with {self.output_fraction} fractional ones: use "
                f"at most {self.result_bits} fractional bits, and two more in all"
            )
        if self.window is not None and len(self.window.tops) != self.rows.heads:
            raise ValueError(f"a window of {len(self.window.tops)} heads does not go with {self.rows.heads} heads")
        if self.reach.min() <= (0 if self.window is None else SPAN):
            raise ValueError(
                f"a row of {self.rows.longest} scores is too long for mantissas {self.power.mantissa_bits}"
            )

    @property
    def client_keys(self) -> KeyKinds:
        """For `exchange_keys`."""
        return self.power.fields

    @property
    def server_keys(self) -> KeyKinds:
        return ()

    # Rings

    @property
    def dropped(self) -> int:
        """Bits that scores lose before anything else; below zero, that they gain."""
        gained = 0 if self.base == 2.0 else protocol.FACTOR_FRACTION
        return self.input_fraction + gained - self.power.fraction_bits

    @property
    def difference_bits(self) -> int:
        """The ring in which the difference of two scores, in base 2, fits; or of a score and the ends of its window. If
        no ring gets larger than 64 bits by it."""
        grown = 0 if self.base == 2.0 else 1
        needed = self.score_bits + 1 + grown - (self.input_fraction - self.power.fraction_bits)
        if self.window is not None:
            largest = 2.0 ** (self.score_bits - 1 + grown - self.input_fraction) + self._farthest
            needed = (math.ceil(largest / self.step) + 2).bit_length() + 1 + self.coarse_dropped
        return min(needed, 64 - self.dropped)

    @property
    def _farthest(self) -> float:
        """From 0, of what scores are compared with in a window."""
        assert self.window is not None
        return max(abs(end) for top in self.window.tops for end in (top + self.step, top - self.reach.max()))

    @property
    def largest_score(self) -> float:
        """Scores may be so large, above and below 0. In rings much smaller than 64 bits: all but a coarse step."""
        largest = 2.0 ** (self.difference_bits - 1 - self.power.fraction_bits)
        in_base_two = (largest / 2 if self.window is None else largest - self._farthest - self.step) - self.step
        return min(in_base_two / math.log2(self.base), 2.0 ** (self.score_bits - 1 - self.input_fraction) - self.step)

    @property
    def held_bits(self) -> int:
        """The ring of scores in base 2."""
        return max(self.difference_bits, self.power.ring_bits)

    @property
    def input_bits(self) -> int:
        """The ring in which scores are wanted: with a bit more than they need, for differences."""
        return self.held_bits + self.dropped

    @property
    def whole_bits(self) -> int:
        """Of an exponent."""
        return self.power.ring_bits - self.power.fraction_bits

    @property
    def coarse_dropped(self) -> int:
        return self.power.fraction_bits - COARSE_FRACTION

    @property
    def coarse_bits(self) -> int:
        """The ring in which coarse scores are compared."""
        return self.difference_bits - self.coarse_dropped

    @property
    def reach_bits(self) -> int:
        """The ring in which they are compared with the reach, which may be more than scores ever differ by."""
        if self.window is not None:
            return self.coarse_bits
        return max(self.coarse_bits, int(self.reach.max() / self.step).bit_length() + 1)

    @property
    def step(self) -> float:
        """Of coarse scores."""
        return 2.0**-COARSE_FRACTION

    @cached_property
    def tournament(self) -> Tournament:
        """For maxima."""
        return Tournament(self.rows, self.coarse_bits, self.held_bits - self.coarse_dropped)

    # Ranges of exponents

    @cached_property
    def largest(self) -> int:
        """The exponent of a probability of 1."""
        return math.floor(self.power.largest(excess=_EXCESS))

    @cached_property
    def largest_term(self) -> int:
        """The exponent of a term of S that is 1, before `LOG2_SCALE`."""
        terms = min(self.slots.groups, self.rows.longest) * LOG2_SCALE
        return math.floor(self.power.largest(terms, excess=_EXCESS))

    @property
    def result_bits(self) -> int:
        """Fractional bits of a probability in the field."""
        return self.largest + self.power.scale_bits

    @property
    def lowest(self) -> int:
        """l: x' is at least -l."""
        return self.largest_term - 1

    @cached_property
    def reach(self) -> np.ndarray:
        """R of each row, [rows], a multiple of the step: the x of a score that counts lies from -R - 2 steps to 0, and
        x and x - L then are in range."""
        per_unit = 2**COARSE_FRACTION
        # log2 of the length in steps, rounded up; in whole numbers, as both parties have to agree.
        lengths = [(int(n) ** per_unit - 1).bit_length() for n in self.rows.lengths]
        last = np.minimum((self.largest - 1) * per_unit - np.array(lengths), self.lowest * per_unit)
        return (last - 2) / per_unit

    @property
    def deepest(self) -> float:
        """How far below 0 the x of a row's maximum lies at most; in a window, of a row for which it was made."""
        return 2 * self.step if self.window is None else SPAN + self.step

    @cached_property
    def log(self) -> Log2Plan:
        high = max(math.ceil(math.log2(self.rows.longest)), 1)
        low, fraction, f = _SUM_LOW, _SUM_FRACTION, self.power.fraction_bits
        if self.window is not None:
            low = -math.ceil(self.deepest)
            fraction = min(
                _SUM_FRACTION + 3 - low, self.largest_term + self.power.scale_bits - LEAST_DROPPED, 62 - high
            )
        return Log2Plan(self.rows.rows, low, high, fraction, self.power.ring_bits, f)

    @property
    def max_error(self) -> float:
        """No probability is off by more, of the softmax over the scores that count: roundings of both powers, twice;
        L; exponents in both passes; what lowered scores add to the sum; roundings of sums; one step."""
        f = self.power.fraction_bits
        steps = self.log.max_error + 2.0 ** (1 - f)
        lowered = self.rows.longest * 2.0 ** (self.deepest - self.lowest)
        sums = float(self.slots.taken.max()) * 2.0 ** (self.deepest - self.log.input_fraction)
        return 2 * self.power.error + math.log(2) * steps + lowered + sums + 2.0**-self.output_fraction

    @property
    def missed(self) -> float:
        """No row loses a larger share of its sum to scores that do not count."""
        below = self.step if self.window is None else SPAN
        return float(((self.rows.lengths - 1) * 2.0 ** -(self.reach - below)).max())

    def cost(self) -> ProtocolCost:
        return self._cost

    @cached_property
    def _cost(self) -> ProtocolCost:
        rows, slots, fields = self.rows, self.slots, self.power.fields
        banks, entries = len(slots.banks), rows.entries
        maxima = self.tournament.cost() if self.window is None else ProtocolCost()
        ends = 1 if self.window is None else 2
        kept = negative_cost(ends * entries, self.reach_bits)
        lifting = multiplexing_shapes(entries, self.power.ring_bits)
        if self.window is not None:
            lifting += arithmetic_shapes(entries, self.whole_bits)
        lifted = products_cost(lifting)
        upload = reduce(or_, [upload_cost(Role.CLIENT, field, banks * slots.groups) for field in fields])
        sums = reduce(
            or_, [product_cost(Role.CLIENT, field, slots.groups, total=True) for field in fields for _ in range(banks)]
        )
        logs = from_field_cost(banks * slots.used, self.log.input_bits) + self.log.cost()
        powers = reduce(or_, [product_cost(Role.CLIENT, field, banks * slots.groups) for field in fields])
        result = from_field_cost(entries, self.output_bits)
        chosen = products_cost(multiplexing_shapes(entries, self.output_bits))
        return maxima + kept + lifted + upload + sums + logs + upload + powers + result + chosen

    @property
    def reads(self) -> Reads:
        return Reads(self.rows.shape, self.input_bits, self.input_fraction)

    def _run(self, party: Party, scores: Share) -> Share:
        return protocol.probabilities(party, self, scores)


def plan_softmax(
    rows: ScoreRows,
    input_bits: int,
    input_fraction: int,
    output_bits: int,
    output_fraction: int,
    *,
    base: float = 2.0,
    window: MaximaWindow | None = None,
) -> SoftmaxPlan:
    """Scores of one or several prompts, of `rows.shape` in a ring of `input_bits`, to probabilities, all in the same
    rounds. base: 2.0, or math.e. window: of `rows.heads` heads, to go without maxima.

    The mantissas' bits are those for which errors and what may be missed are small together.
    """
    if base not in (2.0, math.e):
        raise ValueError(f"softmax has base 2 or e, not {base}")
    fields = (P50,) if rows.longest <= MAX_ONE_PRIME and window is None else (P50, P37)
    slots = plan_slots(rows, SLOTS, MAX_GROUPS // 2 if len(fields) == 1 and rows.longest > LONG else MAX_GROUPS)
    rows = slots.rows  # equal; layers then share its arrays
    plans = []
    for bits in range(16, 29):
        power = Exponential(fields, FRACTION_BITS, (bits - bits // 2, bits // 2))
        try:
            plans.append(
                SoftmaxPlan(rows, slots, power, input_bits, input_fraction, output_bits, output_fraction, base, window)
            )
        except ValueError as error:
            refused = error
    if not plans:
        raise refused
    return min(plans, key=lambda plan: plan.max_error + plan.missed / 8)


def cheapest(plans: Sequence[SoftmaxPlan]) -> SoftmaxPlan:
    """The plan whose bytes and rounds cost least together, a round being worth `ROUND_BYTES`; of equals the first."""
    costs = [plan.cost() for plan in plans]
    return plans[min(range(len(plans)), key=lambda i: costs[i].total_bytes + ROUND_BYTES * costs[i].rounds)]
