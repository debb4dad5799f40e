"""The maximum of each row: games of several players, level by level."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, cached_property, lru_cache
from typing import NamedTuple

import numpy as np

from aero.mpc.cost import ProtocolCost
from aero.mpc.functions.score_rows import Level, ScoreRows
from aero.mpc.ot.transfer import Bits, products_cost
from aero.mpc.party import Party
from aero.mpc.protocols.compare import negative, negative_cost
from aero.mpc.protocols.select import and_bits, conjunction_shapes, multiplex, multiplexing_shapes
from aero.mpc.share import Share

PLAYERS = (2, 3, 4, 6, 8, 12, 16)
"""How many play in a game of the tournament."""
ROUND_BYTES = 100_000
"""That a round is worth in a tournament, and between maxima and a window: 1 ms at 100 MB/s, or 8 ms at 100 Mbit/s."""

USUAL_BITS = 11
"""Of the ring in which scores of 22 bits are compared."""


@dataclass(frozen=True)
class Tournament:
    """For the rows' maxima. bits: of the ring in which entries are compared; held_bits: in which they are held."""

    rows: ScoreRows
    bits: int
    held_bits: int

    def cost(self) -> ProtocolCost:
        total = ProtocolCost()
        for level in self.levels:
            total += self._game_cost(*level.groups.shape)
        return total

    @property
    def levels(self) -> tuple[Level, ...]:
        return _levels(self.rows, self.players)

    @cached_property
    def players(self) -> tuple[int, ...]:
        """Of a game, on each level: so many that bytes and rounds cost least together, of entries of usual size, so
        that rounds do not depend on a model's ranges."""
        lengths, keys, sample, usual = self.rows.lengths, self.rows.longest, 1024, replace(self, bits=USUAL_BITS)
        prices = {players: usual._game_cost(sample, players) for players in PLAYERS if players <= max(keys, 2)}

        @cache
        def best(merged: int) -> tuple[float, tuple[int, ...]]:
            """From rows in which groups of so many entries have each been reduced to a single entry."""
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

    def _game_cost(self, games: int, players: int) -> ProtocolCost:
        """Of a level of the tournament."""
        total, left = negative_cost(games * players * (players - 1) // 2, self.bits), players - 1
        while left > 1:
            total += products_cost(conjunction_shapes(games * (players - 1) * (left // 2)))
            left -= left // 2
        return total + products_cost(multiplexing_shapes(games * (players - 1), self.held_bits))

    def run(self, party: Party, entries: Share) -> Share:
        """[max] of each row, [rows]. In a game all pairs are compared; who is behind nobody wins, of equals the
        first."""
        left = entries
        for level in self.levels:
            players, pairs = left.of(left.values[level.groups]), _pairs(level.groups.shape[1])
            ahead = players.of(players.values[:, pairs.first] - players.values[:, pairs.second])
            unbeaten = _unbeaten(party, negative(party, ahead.reduced(self.bits)), pairs)
            last = players.values[:, -1:]
            gains = multiplex(party, unbeaten, players.of(players.values[:, :-1] - last))
            winners = last[:, 0] + gains.values.sum(axis=1)
            left = left.of(np.concatenate([winners, left.values[level.bye]])[level.order])
        return left


@lru_cache(maxsize=8)  # long: some indices for each score
def _levels(rows: ScoreRows, players: tuple[int, ...]) -> tuple[Level, ...]:
    return rows.tournament(players)


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
