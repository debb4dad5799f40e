"""Causal softmax on shares: probabilities 2^(x - L), x = s - m with m near the maximum of a row, L = log2 of its sum.

s: scores, in base 2. A score counts down to a *reach* R below its row's maximum. Powers are taken modulo a p of one
prime, or of two for long rows (exp2.py); G is the number of ciphertexts in a bank (causal_rows.py).

1. [m]: a tournament over each row's coarse scores, whose step is 2^-2, a few of them to a game: all pairs compared, who
   is behind nobody multiplexed out, level by level.
2. [c] = [m - s <= R], again on coarse scores. [x] = [s - m] minus a step, so that x <= 0.
3. [x'] = [c (x + l) - l]: what is below the reach is lifted or lowered to -l, so far down that a row of them adds
   2^-12 at most to the sum.                                                                                 1 round
4. [2^x'] summed over a row: client's powers encrypted, every row in the same slots of all G ciphertexts; one response,
   the sum over ciphertexts.                                                                                2 rounds
5. [S]: from the field, one number for each slot, added up. [L] = [log2 S] (rows.py).
6. [2^(x - L)]: powers of new exponents, G responses.                                                       2 rounds
7. From the field into the ring of the result, times [c].                                                   2 rounds

What is below the reach is 0, exactly; dead scores are 0 in both shares.

With a public *window* of row maxima for each head there is no step 1 and m is the top of the head's window instead, two
primes holding what rows far below it need. Scores above are brought down to it in step 3, so that a prompt that leaves
the window gives probabilities of other scores, and nothing else. Fewer rounds and more bytes: `cheapest` weighs them.

Errors, ranges, costs and the argument for privacy: docs/security/softmax.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache, reduce
from operator import or_
from typing import NamedTuple

import numpy as np

from aero.kernels.slots import P37, P50, SLOTS
from aero.mpc.cost import ProtocolCost
from aero.mpc.functions.causal_rows import CausalRows, Level, Slots, plan_slots
from aero.mpc.functions.exp2 import LEAST_DROPPED, Exponential
from aero.mpc.functions.rows import LOG2_SCALE, Log2Plan, plus
from aero.mpc.ot.transfer import Bits, products_cost, together
from aero.mpc.party import Party, Role
from aero.mpc.plan import FunctionPlan, KeyKinds, Reads
from aero.mpc.protocols.compare import negative, negative_cost
from aero.mpc.protocols.extend import from_field_cost
from aero.mpc.protocols.ole import Encryption, Product, encrypt_many, multiply_many, product_cost, upload_cost
from aero.mpc.protocols.select import (
    and_bits,
    arithmetic,
    arithmetic_shapes,
    conjunction_shapes,
    multiplex,
    multiplexing,
    multiplexing_shapes,
    not_bits,
)
from aero.mpc.share import Share, Words

FRACTION_BITS = 14
"""Of exponents, whatever scores have."""
COARSE_FRACTION = 2
"""Of coarse scores."""
PLAYERS = (2, 3, 4, 6, 8, 12, 16)
"""How many play in a game of the tournament."""
ROUND_BYTES = 100_000
"""That a round is worth in a tournament, and between maxima and a window: 1 ms at 100 MB/s, or 8 ms at 100 Mbit/s."""
MAX_ONE_PRIME = 256
"""Longer rows need a wider range of exponents than a prime of 50 bits has for the same error: they take two."""
MAX_GROUPS = 16
"""Ciphertexts whose products are summed."""
SPAN = 25.75
"""Octaves of a window: row maxima lie so far below its top at most."""
MARGIN = 2.0
"""Octaves that a window has beyond the row maxima that were seen, above and below, at least."""
_FACTOR_FRACTION = 18
_SUM_FRACTION = 20
_SUM_LOW = -1
"""S is at least 2^-1: the largest of a row is at most two coarse steps below 0."""
_EXCESS = 2.0**-9
"""More than the relative error of a probability or a sum, of which rings and fields have to hold one above 1."""


@dataclass(frozen=True)
class Window:
    """Where row maxima lie, for each head: from tops[h] - SPAN to below tops[h], of scores in base 2. A row of one key
    may lie anywhere. tops: multiples of 2^-2.

    Outside: a score of top and more counts as one of top + 2^-2 (those within 2^-2 of top may count as they are); a
    row whose maximum lies deeper than `SPAN` gets probabilities that are right or too small, and below the plan's
    reach 0.
    """

    tops: tuple[float, ...]

    def __post_init__(self) -> None:
        if any((top * 2**COARSE_FRACTION) % 1 for top in self.tops):
            raise ValueError(f"tops of windows are finite multiples of 2^-{COARSE_FRACTION}: make them by `window_of`")


def window_of(row_maxima: Sequence[tuple[float, float]], base: float) -> Window | None:
    """A window around the lowest and highest row maximum of each head, in the score's own unit; what it spans beyond
    them lies half above, half below. None where a head's maxima are too far apart for it."""
    unit, tops = math.log2(base), []
    for low, high in row_maxima:
        room = SPAN - (high - low) * unit
        if not room >= 2 * MARGIN:
            return None
        tops.append(math.ceil((high * unit + room / 2) * 2**COARSE_FRACTION) / 2**COARSE_FRACTION)
    return Window(tuple(tops))


@dataclass(frozen=True)
class SoftmaxPlan(FunctionPlan):
    """What both parties must agree on, from public sizes alone. `plan_softmax` makes it.

    score_bits: of the ring in which scores lie, at most `largest_score`. input_fraction: of scores.
    base: 2.0 or e. power: how exponentials are shared. window: None where maxima are taken.
    """

    rows: CausalRows
    slots: Slots
    power: Exponential
    score_bits: int
    input_fraction: int
    output_bits: int
    output_fraction: int
    base: float
    window: Window | None = None

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
        gained = 0 if self.base == 2.0 else _FACTOR_FRACTION
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
    def _whole_bits(self) -> int:
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

    # Maxima

    def _game_cost(self, games: int, players: int) -> ProtocolCost:
        """Of a level of the tournament."""
        total, left = negative_cost(games * players * (players - 1) // 2, self.coarse_bits), players - 1
        while left > 1:
            total += products_cost(conjunction_shapes(games * (players - 1) * (left // 2)))
            left -= left // 2
        wide = self.held_bits - self.coarse_dropped
        return total + products_cost(multiplexing_shapes(games * (players - 1), wide))

    @property
    def levels(self) -> tuple[Level, ...]:
        """The tournament for maxima."""
        return _tournament(self.rows, self._players)

    @cached_property
    def _players(self) -> tuple[int, ...]:
        """Of a game, on each level: so many that bytes and rounds cost least together."""
        lengths, keys, sample = self.rows.lengths, self.rows.longest, 1024
        prices = {players: self._game_cost(sample, players) for players in PLAYERS if players <= max(keys, 2)}

        @cache
        def best(merged: int) -> tuple[float, tuple[int, ...]]:
            """From rows in which every so many entries have been reduced to one."""
            if merged >= keys:
                return 0.0, ()
            counts, choices = -(-lengths // merged), []
            for players, cost in prices.items():
                games = int((counts // players + (counts % players > 1)).sum())
                rest, later = best(merged * players)
                # A multiplexer's message travels with the next comparison's.
                price = games * cost.total_bytes / sample + ROUND_BYTES * (cost.rounds - 1)
                choices.append((price + rest, (players, *later)))
            return min(choices)

        return best(1)[1]

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
        maxima = ProtocolCost()
        for level in () if self.window is not None else self.levels:
            maxima += self._game_cost(*level.groups.shape)
        ends = 1 if self.window is None else 2
        kept = negative_cost(ends * entries, self.reach_bits)
        lifting = multiplexing_shapes(entries, self.power.ring_bits)
        if self.window is not None:
            lifting += arithmetic_shapes(entries, self._whole_bits)
        lifted = products_cost(lifting)
        upload = reduce(or_, [upload_cost(Role.CLIENT, field, banks * slots.groups) for field in fields])
        sums = reduce(or_, [product_cost(Role.CLIENT, field, 1) for field in fields for _ in range(banks)])
        logs = from_field_cost(banks * slots.used, self.log.input_bits) + self.log.cost()
        powers = reduce(or_, [product_cost(Role.CLIENT, field, banks * slots.groups) for field in fields])
        result = from_field_cost(entries, self.output_bits)
        chosen = products_cost(multiplexing_shapes(entries, self.output_bits))
        return maxima + kept + lifted + upload + sums + logs + upload + powers + result + chosen

    @property
    def reads(self) -> Reads:
        return Reads(self.rows.shape, self.input_bits, self.input_fraction)

    def _run(self, party: Party, scores: Share) -> Share:
        """0 in both shares where a query does not see a key."""
        rows, power, shape = self.rows, self.power, self.rows.shape
        s = _entries(scores.reshape(-1), rows.place)
        if self.base != 2.0:
            s = s.times(round(math.log2(self.base) * 2**_FACTOR_FRACTION), _FACTOR_FRACTION)
        if self.dropped < 0:  # x modulo 2^l, times 2^k, counts modulo 2^(l + k)
            s = s.of(s.values << np.uint64(-self.dropped), bits=self.held_bits, fraction_bits=power.fraction_bits)
        else:
            s = s.truncated(self.dropped)

        counts, x, lifted = (_below_maxima if self.window is None else _below_tops)(party, self, s)
        logs = _log_sums(party, self, lifted)
        powers = _powers(party, self, x - _entries(logs, rows.row), self.largest, total=False)
        probabilities = power.to_ring(
            party,
            [self.slots.gather(residues) for residues in powers],
            bits=self.output_bits,
            dropped=self.result_bits - self.output_fraction,
            fraction_bits=self.output_fraction,
        )
        chosen = multiplex(party, counts, probabilities)
        out = np.zeros(math.prod(shape), np.uint64)
        out[rows.place] = chosen.values
        return chosen.of(out.reshape(shape))


@lru_cache(maxsize=8)  # long: some indices for each score
def _tournament(rows: CausalRows, players: tuple[int, ...]) -> tuple[Level, ...]:
    return rows.tournament(players)


def plan_softmax(
    rows: CausalRows,
    input_bits: int,
    input_fraction: int,
    output_bits: int,
    output_fraction: int,
    *,
    base: float = 2.0,
    window: Window | None = None,
) -> SoftmaxPlan:
    """Scores of one or several prompts, of `rows.shape` in a ring of `input_bits`, to probabilities, all in the same
    rounds. base: 2.0, or math.e. window: of `rows.heads` heads, to go without maxima.

    The mantissas' bits are those for which errors and what may be missed are small together.
    """
    if base not in (2.0, math.e):
        raise ValueError(f"softmax has base 2 or e, not {base}")
    slots = plan_slots(rows, SLOTS, MAX_GROUPS)
    rows = slots.rows  # equal; layers then share its arrays
    fields = (P50,) if rows.longest <= MAX_ONE_PRIME and window is None else (P50, P37)
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


def _entries(x: Share, places: np.ndarray) -> Share:
    return x.of(x.values[places])


def _below_maxima(party: Party, plan: SoftmaxPlan, s: Share) -> tuple[Bits, Share, Share]:
    """Steps 1 to 3: which scores count, [x], and [x'], each [entries]."""
    rows, coarse = plan.rows, s.truncated(plan.coarse_dropped)
    tops = _entries(_maxima(party, plan, coarse), rows.row)
    below = plus(party, (coarse - tops).reduced(plan.reach_bits), plan.reach[rows.row])
    counts = not_bits(party, negative(party, below))
    highest = s.of(tops.values << np.uint64(plan.coarse_dropped))
    x = plus(party, (s - highest).reduced(plan.power.ring_bits), -plan.step)
    lifted = plus(party, multiplex(party, counts, plus(party, x, plan.lowest)), -plan.lowest)
    return counts, x, lifted


def _below_tops(party: Party, plan: SoftmaxPlan, s: Share) -> tuple[Bits, Share, Share]:
    """The same with a window: [c] = [s - top >= -R] and [a] = [s - top > 0], coarsely, in the same rounds; [x'] = 0 for
    what is above, and is [x] for what counts as well. The only score of a row gives way to a public one: whatever it
    is, its probability is 1."""
    assert plan.window is not None
    rows, f, lowest = plan.rows, plan.power.fraction_bits, plan.lowest
    tops = np.asarray(plan.window.tops)[rows.head[rows.row]]
    alone = rows.lengths[rows.row] == 1
    s = plus(party, s.of(np.where(alone, np.uint64(0), s.values)), np.where(alone, tops - 1, 0.0))
    coarse = s.truncated(plan.coarse_dropped).reduced(plan.coarse_bits)
    ends = np.stack([tops - plan.reach[rows.row], tops + plan.step])
    both = coarse.of(np.broadcast_to(coarse.values, ends.shape))
    counts, above = not_bits(party, negative(party, plus(party, both, -ends)))

    # Whatever is above counts: XOR shares of what counts and is not above.
    from_lowest = plus(party, s.reduced(plan.power.ring_bits), lowest - plan.step - tops)
    inside, raised = together(
        party, multiplexing(party, counts ^ above, from_lowest), arithmetic(party, above, plan._whole_bits)
    )
    top = inside.of((raised.values * np.uint64(lowest)) << np.uint64(f))
    lifted = plus(party, inside + top, -lowest)
    return counts, lifted, lifted


def _maxima(party: Party, plan: SoftmaxPlan, coarse: Share) -> Share:
    """[max] of each row, [rows]. In a game all pairs are compared; who is behind nobody wins, of equals the first."""
    left = coarse
    for level in plan.levels:
        players, pairs = _entries(left, level.groups), _pairs(level.groups.shape[1])
        ahead = players.of(players.values[:, pairs.first] - players.values[:, pairs.second])
        unbeaten = _unbeaten(party, negative(party, ahead.reduced(plan.coarse_bits)), pairs)
        last = players.values[:, -1:]
        gains = multiplex(party, unbeaten, players.of(players.values[:, :-1] - last))
        winners = last[:, 0] + gains.values.sum(axis=1)
        left = left.of(np.concatenate([winners, left.values[level.bye]])[level.order])
    return left


class _Pairs(NamedTuple):
    """All pairs of players. first, second: of each pair. games: [players - 1, players - 1], for each player but the
    last, its pairs; wins: 1 where it is their first, which must not be behind, 0 where the first must be."""

    first: np.ndarray
    second: np.ndarray
    games: np.ndarray
    wins: Bits


@lru_cache(maxsize=len(PLAYERS))
def _pairs(players: int) -> _Pairs:
    first, second = np.triu_indices(players, 1)
    number = np.zeros((players, players), np.int64)
    number[first, second] = number[second, first] = np.arange(len(first))
    everyone = np.arange(players)
    others = np.array([np.delete(everyone, i) for i in everyone[:-1]])
    own = everyone[:-1, None]
    return _Pairs(first, second, number[own, others], (own < others).astype(np.uint8))


def _unbeaten(party: Party, behind: Bits, pairs: _Pairs) -> Bits:
    """Whether each player but the last wins against all others, [games, players - 1], from whether the first of each
    pair is behind, [games, pairs]."""
    rest = behind[:, pairs.games] ^ (pairs.wins if party.is_client else np.uint8(0))
    while (count := rest.shape[2]) > 1:
        half = count // 2
        both = and_bits(party, rest[..., :half], rest[..., half : 2 * half])
        rest = np.concatenate([both, rest[..., 2 * half :]], axis=2)
    return rest[..., 0]


def _powers(party: Party, plan: SoftmaxPlan, exponents: Share, offset: float, *, total: bool) -> list[Words]:
    """Shares of 2^(x + offset), scaled, modulo each prime: [banks, groups, used slots], or summed over groups [banks,
    used]."""
    slots, fields = plan.slots, plan.power.fields
    banks, groups, used = len(slots.banks), slots.groups, slots.used
    cells = [slots.spread(power) for power in plan.power.power(party, plus(party, exponents, offset).values)]
    flat = [cell.reshape(-1, used) for cell in cells]
    own = flat if party.is_client else [None] * len(fields)
    uploads = encrypt_many(
        party, [Encryption(Role.CLIENT, f, banks * groups, used, v) for f, v in zip(fields, own, strict=True)]
    )
    theirs = [None] * len(fields) if party.is_client else flat
    if not total:
        products = multiply_many(party, [Product(u, v) for u, v in zip(uploads, theirs, strict=True)])
        return [product.reshape(banks, groups, used) for product in products]
    jobs = [
        Product(u.part(i, i + groups), None if v is None else v[i : i + groups], total=True)
        for u, v in zip(uploads, theirs, strict=True)
        for i in range(0, banks * groups, groups)
    ]
    return list(np.stack(multiply_many(party, jobs)).reshape(len(fields), banks, used))


def _log_sums(party: Party, plan: SoftmaxPlan, exponents: Share) -> Share:
    """[log2 of the sum of 2^x] of each row, [rows]."""
    slots = plan.slots
    sums = _powers(party, plan, exponents, plan.largest_term + math.log2(LOG2_SCALE), total=True)
    parts = plan.power.to_ring(
        party,
        [residues.reshape(-1) for residues in sums],
        bits=plan.log.input_bits,
        dropped=plan.largest_term + plan.power.scale_bits - plan.log.input_fraction,
        fraction_bits=plan.log.input_fraction,
    )
    return plan.log.run(party, parts.of(slots.row_sums(parts.values)))
