"""Products of shared values of several prompts, all in the same two rounds: as if the heads of all were one prompt's.

Prompts of equal sizes go together; those of other sizes as well, padded in front to the longest, where that takes fewer
bytes: the causal triangle is counted from the end, so that zeros in front are rows and keys that nothing reads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from aero.mpc.cost import ProtocolCost
from aero.mpc.party import Party
from aero.mpc.plan import KeyKinds, Plan
from aero.mpc.protocols.pair import PairPlan, multiply_pairs, pairs_cost
from aero.mpc.share import Share, Words, concatenate, split

Factors = tuple[Share, Share]
"""[heads, rows, inner] and [heads, inner, columns], of one prompt."""


@dataclass(frozen=True)
class StackedPlan(Plan[[Sequence[Factors]], list[Share]]):
    """plans: of the stacks. members: of each stack, the places of its prompts."""

    plans: tuple[PairPlan, ...]
    members: tuple[tuple[int, ...], ...]

    @property
    def error(self) -> float:
        """As of `PairPlan`."""
        return max(plan.error for plan in self.plans)

    @property
    def hints(self) -> int:
        """As of `PairPlan`."""
        return sum(plan.hints for plan in self.plans)

    @property
    def wear(self) -> float:
        """As of `PairPlan`."""
        return sum(plan.wear for plan in self.plans)

    @property
    def client_keys(self) -> KeyKinds:
        return tuple(key for plan in self.plans for key in plan.client_keys)

    @property
    def server_keys(self) -> KeyKinds:
        return tuple(key for plan in self.plans for key in plan.server_keys)

    def cost(self) -> ProtocolCost:
        return pairs_cost(self.plans)

    def check(self, factors: Sequence[Factors]) -> None:
        prompts = sum(map(len, self.members))
        if len(factors) != prompts:
            raise ValueError(f"the plan is for the factors of {prompts} prompts, not of {len(factors)}")

    def _run(self, party: Party, factors: Sequence[Factors]) -> list[Share]:
        jobs = [
            (
                plan,
                concatenate([_padded(factors[i][0], plan.rows, plan.inner) for i in members]),
                concatenate([_padded(factors[i][1], plan.inner, plan.columns) for i in members]),
            )
            for plan, members in zip(self.plans, self.members, strict=True)
        ]
        results: dict[int, Share] = {}
        for product, members in zip(multiply_pairs(party, jobs), self.members, strict=True):
            heads = len(product.values) // len(members)
            for i, z in zip(members, split(product, [heads] * len(members)), strict=True):
                x, y = factors[i]
                results[i] = z.of(np.ascontiguousarray(z.values[:, -x.shape[1] :, -y.shape[2] :]))
        return [results[i] for i in range(len(factors))]


def plan_stacked(
    make: Callable[[int, int, int], PairPlan], heads: int, sizes: Sequence[tuple[int, int]]
) -> StackedPlan:
    """sizes: queries and keys of each prompt. make: (heads, queries, keys) -> the plan of a stack."""
    places: dict[tuple[int, int], list[int]] = {}
    for place, size in enumerate(sizes):
        places.setdefault(size, []).append(place)
    apart = StackedPlan(
        tuple(make(len(few) * heads, *size) for size, few in places.items()), tuple(map(tuple, places.values()))
    )
    if len(places) == 1:
        return apart
    longest = max(queries for queries, _ in sizes), max(keys for _, keys in sizes)
    whole = StackedPlan((make(len(sizes) * heads, *longest),), (tuple(range(len(sizes))),))
    return min(whole, apart, key=lambda plan: plan.cost().total_bytes)


def _padded(x: Share, rows: int, columns: int) -> Share:
    """[heads, rows, columns], with zeros in front of what is there."""
    padded: Words = np.zeros((len(x.values), rows, columns), np.uint64)
    padded[:, rows - x.shape[1] :, columns - x.shape[2] :] = x.values
    return x.of(padded)
