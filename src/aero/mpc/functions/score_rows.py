"""Where the live entries of rows of scores go: into the slots of ciphertexts, and through a tournament for each row's
maximum. All of it follows from public sizes.

Scores are [heads, queries, keys]; query t sees the keys 0 .. keys - queries + t where they are causal, and every key
elsewhere. Those of several prompts follow one another, flat. A *row* is one query of one head of one prompt, and live
entries are numbered one row after the other.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


class Level(NamedTuple):
    """Indices into what the level before left. groups: [games, players], of each of which the largest goes on; where a
    row has fewer left, its last one plays several times. bye: go on without a game. order: brings the winners, followed
    by the byes, back into the order of rows."""

    groups: Indices
    bye: Indices
    order: Indices


@dataclass(frozen=True)
class ScoreRows:
    """heads: of every prompt. prompts: queries and keys of each; keys >= queries where they are causal."""

    heads: int
    prompts: tuple[tuple[int, int], ...]
    causal: bool = True

    def __post_init__(self) -> None:
        for queries, keys in self.prompts:
            if min(queries, keys, self.heads) < 1 or (self.causal and queries > keys):
                raise ValueError(
                    "scores have heads, queries and keys, and causal ones no more queries than keys, not "
                    f"{self.heads} heads of {queries} queries and {keys} keys"
                )
        if not self.prompts:
            raise ValueError("there are no scores: give at least one prompt")

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the scores: [heads, queries, keys] of a single prompt, or flat."""
        if len(self.prompts) == 1:
            return (self.heads, *self.prompts[0])
        return (self.heads * sum(queries * keys for queries, keys in self.prompts),)

    @property
    def longest(self) -> int:
        """Keys of the longest row."""
        return max(keys for _, keys in self.prompts)

    @cached_property
    def lengths(self) -> Indices:
        """Live entries of each row, [rows]."""
        each = [np.arange(k - q + 1, k + 1) if self.causal else np.full(q, k) for q, k in self.prompts]
        return np.concatenate([np.tile(lengths, self.heads) for lengths in each])

    @property
    def rows(self) -> int:
        return self.heads * sum(queries for queries, _ in self.prompts)

    @cached_property
    def head(self) -> Indices:
        """The head of each row, [rows]."""
        return np.concatenate([np.repeat(np.arange(self.heads), queries) for queries, _ in self.prompts])

    @cached_property
    def entries(self) -> int:
        return int(self.lengths.sum())

    @cached_property
    def starts(self) -> Indices:
        """The first entry of each row, [rows]."""
        return _starts(self.lengths)

    @cached_property
    def row(self) -> Indices:
        """The row of each entry, [entries]."""
        return np.repeat(np.arange(self.rows), self.lengths)

    @cached_property
    def place(self) -> Indices:
        """The place of each entry in the scores, flat."""
        widths = np.concatenate([np.full(self.heads * queries, keys) for queries, keys in self.prompts])
        return _starts(widths)[self.row] + np.arange(self.entries) - self.starts[self.row]

    def tournament(self, players: Sequence[int]) -> tuple[Level, ...]:
        """Games of so many players, level by level, until every row has one entry left."""
        levels, counts = [], self.lengths
        for fan in players:
            starts, games = _starts(counts), -(-counts // fan)
            game: Indices = np.arange(games.sum()) - np.repeat(_starts(games), games)
            first = np.repeat(starts, games) + fan * game
            last = np.repeat(starts + counts - 1, games)
            groups = np.minimum(first[:, None] + np.arange(fan), last[:, None])
            alone = first == last
            order = np.empty(len(first), np.int64)
            order[np.concatenate([np.flatnonzero(~alone), np.flatnonzero(alone)])] = np.arange(len(first))
            levels.append(Level(groups[~alone], first[alone], order))
            counts = games
        if counts.max() > 1:
            raise ValueError(f"games of {tuple(players)} players leave {counts.max()} in a row of {self.longest}")
        return tuple(levels)


@dataclass(frozen=True)
class Slots:
    """Where entries lie in ciphertexts of `width` slots, so that a row keeps to the same slots in all ciphertexts of
    its bank: then their sum over ciphertexts is a sum over parts of each row.

    groups: ciphertexts of each bank. banks: (first row, row after the last).
    """

    rows: ScoreRows
    width: int
    groups: int
    banks: tuple[tuple[int, int], ...]

    @cached_property
    def taken(self) -> Indices:
        """Slots that each row takes in every ciphertext of its bank, [rows]."""
        return -(-self.rows.lengths // self.groups)

    @cached_property
    def used(self) -> int:
        """Slots used of each ciphertext, the most of all banks."""
        return max(int(self.taken[a:b].sum()) for a, b in self.banks)

    @cached_property
    def first(self) -> Indices:
        """The first slot of each row, counted over banks of `used` slots, [rows]."""
        parts = [bank * self.used + _starts(self.taken[a:b]) for bank, (a, b) in enumerate(self.banks)]
        return np.concatenate(parts)

    @cached_property
    def place(self) -> Indices:
        """The place of each entry in [banks groups used], flat."""
        rows, taken = self.rows, self.taken[self.rows.row]
        within = np.arange(rows.entries) - rows.starts[rows.row]
        bank, slot = np.divmod(self.first[rows.row], self.used)
        return (bank * self.groups + within // taken) * self.used + slot + within % taken

    def spread(self, values: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """[entries] -> [banks, groups, used], zero where no entry lies."""
        out = np.zeros(len(self.banks) * self.groups * self.used, np.uint64)
        out[self.place] = values
        return out.reshape(len(self.banks), self.groups, self.used)

    def gather(self, cells: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """[banks, groups, used] -> [entries]."""
        return np.ascontiguousarray(cells).reshape(-1)[self.place]

    def row_sums(self, sums: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Sums over groups, [banks, used] or flat -> sums over rows, modulo 2^64, [rows]. What is not used is 0."""
        filled = sums.reshape(-1)[: self.first[-1] + self.taken[-1]]
        return np.add.reduceat(filled, self.first)


@lru_cache(maxsize=8)  # the softmaxes of all layers
def plan_slots(rows: ScoreRows, width: int, max_groups: int) -> Slots:
    """As few ciphertexts as fit, at most `max_groups` to a bank."""
    for banks in range(1, rows.rows + 1):
        cuts = np.searchsorted(np.cumsum(rows.lengths), rows.entries * np.arange(1, banks) / banks)
        edges = [0, *(int(cut) + 1 for cut in cuts), rows.rows]
        parts = tuple((a, b) for a, b in itertools.pairwise(edges) if a < b)
        for groups in range(1, max_groups + 1):
            slots = Slots(rows, width, groups, parts)
            if slots.used <= width:
                return slots
    raise ValueError(f"a row of {rows.longest} scores does not fit {max_groups} ciphertexts of {width} slots")


def _starts(counts: Indices) -> Indices:
    """Where each of several runs of these lengths begins."""
    return np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)
