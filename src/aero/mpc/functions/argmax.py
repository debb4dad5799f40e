"""The k largest of n shared numbers and where they stand, by a tournament; nothing is revealed on the way.

Numbers stand in lists from the largest down; at first each is a list of its own. Of two neighbouring lists:

1. The second is turned round, and pairs are compared: [b] = [x < y] (protocols/compare.py), then [d] = [b (y - x)], of
   the numbers and of their indices in one round (protocols/select.py). max = x + d and min = y - d. The maxima are a
   bitonic sequence, and so are the minima, and no minimum exceeds a maximum (Batcher 1968, "Sorting networks and their
   applications").
2. Lists of less than k numbers keep both and become one of twice the size; others keep the maxima alone.
3. A bitonic sequence of s numbers is sorted by comparing those at distances s / 2, s / 4, ..., 1, one after the other.

All pairs of lists at the same time; a list without a partner waits. For k = 1 that is n - 1 comparisons in ceil(log2 n)
levels, and of equal numbers the first wins, as with numpy's argmax. For k > 1, equal numbers come in no particular
order; a tournament for each of the k would take k (n - 1) comparisons in k ceil(log2 n) levels, this takes less from k
= 4 on, and fewer levels from k = 2 (`TopKPlan.comparisons`). A level is a comparison and one round more.

Several rows of n numbers, each with a tournament of its own, take the rounds of one.

Exact for -2^(l-2) < x < 2^(l-2), half of the ring: a difference of two has to fit it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from aero.mpc.cost import ProtocolCost
from aero.mpc.fixed_point import reduce_ring
from aero.mpc.ot.transfer import products_cost, together
from aero.mpc.party import Party, Role
from aero.mpc.plan import TransfersAlone
from aero.mpc.protocols.compare import negative, negative_cost
from aero.mpc.protocols.select import multiplexing, multiplexing_shapes
from aero.mpc.share import Share, Words, known

Begin = Callable[[ProtocolCost], None]
"""Called before each merge with its cost, so that OTs can be made ready merge by merge."""


@dataclass(frozen=True)
class Merge:
    """Steps 1 to 3 for all lists. lists, size: of those before; whole: they have k numbers already."""

    lists: int
    size: int
    whole: bool

    def pairs(self) -> list[int]:
        """How many are compared at the same time, level by level."""
        merged = self.lists // 2
        to_sort = merged if self.whole else 2 * merged
        return [merged * self.size] + [to_sort * self.size // 2] * (self.size.bit_length() - 1)


@dataclass(frozen=True)
class TopKPlan(TransfersAlone[[Share, Begin], tuple[Share, Share]]):
    """count: n numbers; k: how many of the largest; bits, fraction_bits: of the numbers; rows: of n numbers each."""

    count: int
    k: int
    bits: int
    fraction_bits: int = 0
    rows: int = 1

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise ValueError(f"{self.rows} rows of numbers have nothing to compare; give at least 1")
        if not 1 <= self.k <= self.count:
            raise ValueError(f"{self.count} numbers have no {self.k} largest; give k from 1 to {self.count}")
        if not 3 <= self.bits <= 64 or not 0 <= self.fraction_bits < self.bits:
            raise ValueError(f"numbers of {self.bits} bits with {self.fraction_bits} fractional ones fit no ring here")

    @property
    def width(self) -> int:
        """Numbers of a whole list: k, or the next power of two."""
        return 1 << (self.k - 1).bit_length()

    @property
    def padded(self) -> int:
        """n, and as many of the least numbers as fill the last list."""
        return -(-self.count // self.width) * self.width

    @property
    def place_bits(self) -> int:
        """The ring of indices."""
        return max(2, (self.padded - 1).bit_length())

    def merges(self) -> Iterator[Merge]:
        lists, size = self.padded, 1
        while lists > 1:
            whole = size == self.width
            yield Merge(lists, size, whole)
            lists, size = lists - lists // 2, size if whole else 2 * size

    @property
    def comparisons(self) -> int:
        """Of one row."""
        return sum(sum(merge.pairs()) for merge in self.merges())

    @property
    def levels(self) -> int:
        """Comparisons that wait for one another."""
        return sum(len(merge.pairs()) for merge in self.merges())

    def merge_cost(self, merge: Merge) -> ProtocolCost:
        total = ProtocolCost()
        for pairs in (self.rows * pairs for pairs in merge.pairs()):
            shapes = [s for bits in (self.bits, self.place_bits) for s in multiplexing_shapes(pairs, bits)]
            total = total + negative_cost(pairs, self.bits) + products_cost(shapes)
        return total

    def cost(self) -> ProtocolCost:
        return sum(map(self.merge_cost, self.merges()), ProtocolCost())

    def check(self, x: Share, begin: Begin = lambda _: None) -> None:
        """x [rows, n], or [n] where there is one row."""
        shapes = [(self.rows, self.count)] + [(self.count,)] * (self.rows == 1)
        if x.shape not in shapes or (x.bits, x.fraction_bits) != (self.bits, self.fraction_bits):
            raise ValueError(
                f"this plan is for {self.count} numbers of {self.bits} bits in {self.rows} rows, not {x.shape} of "
                f"{x.bits}"
            )

    def _run(self, party: Party, x: Share, begin: Begin = lambda _: None) -> tuple[Share, Share]:
        """The k largest numbers of each row, from the largest down, and their indices from 0: shares [rows, k], or [k],
        of each."""
        wide = (self.padded, self.rows, 1)  # lists, rows, numbers of a list
        least = np.full(self.padded - self.count, -(1 << (self.bits - 2)), np.int64).view(np.uint64)
        filler = known(party, Role.CLIENT, reduce_ring(least, self.bits), self.bits).values
        numbers = np.concatenate([x.values.reshape(self.rows, -1).T, np.repeat(filler[:, None], self.rows, axis=1)])
        places = np.repeat(np.arange(self.padded, dtype=np.uint64), self.rows)
        lists = _Lists(x.of(numbers.reshape(wide)), known(party, Role.CLIENT, places.reshape(wide), self.place_bits))
        for merge in self.merges():
            begin(self.merge_cost(merge))
            lists = _merged(party, merge, lists)
        found = lists.each(lambda v: v[0, :, : self.k].reshape(*x.shape[:-1], self.k))
        return found.values, found.places


class _Lists(NamedTuple):
    """Numbers and their indices, each in a single array."""

    values: Share
    places: Share

    def each(self, change: Callable[[Words], Words]) -> _Lists:
        """The same done to both arrays."""
        return _Lists(*(x.of(np.ascontiguousarray(change(x.values))) for x in self))

    def with_each(self, other: _Lists, change: Callable[[Words, Words], Words]) -> _Lists:
        return _Lists(*(x.of(change(x.values, y.values)) for x, y in zip(self, other, strict=True)))


def _merged(party: Party, merge: Merge, lists: _Lists) -> _Lists:
    rows, size, even = lists.values.shape[1], merge.size, merge.lists // 2 * 2
    firsts, seconds = lists.each(lambda v: v[0:even:2]), lists.each(lambda v: v[1:even:2, :, ::-1])
    high, low = _ordered(party, firsts, seconds)
    merged = high
    if not merge.whole:
        merged = high.with_each(low, lambda h, o: np.stack([h, o], axis=1).reshape(-1, rows, size))
    distance = size // 2
    while distance:
        apart = (-1, size // (2 * distance), 2, distance)
        split = _Lists(merged.values.reshape(*apart), merged.places.reshape(*apart))
        firsts, seconds = split.each(lambda v: v[:, :, 0]), split.each(lambda v: v[:, :, 1])
        high, low = _ordered(party, firsts, seconds)
        merged = high.with_each(low, lambda h, o: np.stack([h, o], axis=2).reshape(-1, rows, size))
        distance //= 2
    if not merge.whole:
        apart = (-1, 2, rows, size)
        merged = merged.each(lambda v: v.reshape(*apart).transpose(0, 2, 1, 3).reshape(-1, rows, 2 * size))
    if even == merge.lists:
        return merged
    return merged.with_each(lists, lambda m, all_: np.concatenate([m, all_[even:]]))


def _ordered(party: Party, x: _Lists, y: _Lists) -> tuple[_Lists, _Lists]:
    """The larger of each pair, and the smaller; x where they are equal."""
    values, places = x.values, x.places
    smaller = negative(party, values - y.values)
    moved = _Lists(
        *together(
            party,
            multiplexing(party, smaller, y.values - values),
            multiplexing(party, smaller, y.places - places),
        )
    )
    return x.with_each(moved, np.add), y.with_each(moved, np.subtract)
