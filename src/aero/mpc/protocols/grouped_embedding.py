"""[table[ids]] for many ids: each is looked for in a small part of the table, and nobody sees in which.

The table's V rows stand in two arrangements, random and public, each cut into H groups of R rows; so every row is in
two of 2 H groups. The client puts each of its ids, of T tokens, into one of its two groups, and none has more than C.

1. Client: encrypts, for each group, the C rows of R numbers that are one at the positions of the ids put there, and
   zero elsewhere; and the matrix P [T, 2 H C] that is one where a token's id was put.            client -> server
2. Server: the product of each group's rows with that part of the table: additive shares Y of 2 H C rows, its own part
   Y_1. Then the product of P with Y_1.                                                           server -> client
3. [rows in order] = P Y_0, which the client computes alone, plus the shares of P Y_1.

2 rounds, and 2 C V d multiplications where one-hot rows of the whole table take T V d (`embedding.py`): C is 7 for 128
tokens, and 5 for 512 with more groups. An id that comes twice is put once. The client learns nothing, the server
nothing but T; where ids were not chosen for these very arrangements, they find their places but for a probability of
`MISSED`, and where they do not, the client sends nothing and gives up. Off by the errors of both products.
docs/security/embedding.md has the argument.

Batch codes from cuckoo hashing: Angel, Chen, Laine and Setty 2018 (SealPIR), section 5; two choices and several places
in each: Dietzfelbinger and Weidling 2007. The way back to the order of the tokens is ours.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aero.kernels.lattice_cost import NoTiling, cost_of, plan_matmul
from aero.kernels.lattice_matmul import Columns
from aero.kernels.lattice_noise import Noise, require_noise, share_noise
from aero.kernels.prg import Prg
from aero.kernels.rlwe import Params
from aero.mpc.cost import ProtocolCost
from aero.mpc.fixed_point import from_ring, reduce_ring
from aero.mpc.hints import SERVER_NOISE
from aero.mpc.party import Party
from aero.mpc.plan import KeyKinds
from aero.mpc.protocols.linear import PARAMS, LinearPlan, LoadedWeights, ask, prepare_answer, product_cost, read_answer
from aero.mpc.protocols.look_up import LookUp
from aero.mpc.share import Share

MISSED = 2.0**-40
MAX_HALF = 64
"""Groups of an arrangement, at most."""
MAX_ORDER_ERROR = 32.0
"""Steps that putting rows in order may cost; the server's own noise takes 19."""
MAX_KNOWN = 2.0**-8
"""Deviation of the client's own noise times the server's shares, in steps, at most (docs/security/errors.md)."""
MAX_BITS = 53
"""Of the ring: P Y_0 is computed in float64, exactly, as a row of P has a single one."""
_SEED = bytes(16)
_PLACING = 5e-5  # seconds a token, several times what finding places takes


@dataclass(frozen=True)
class GroupedPlan(LookUp["LoadedTable"]):
    """What both parties must agree on. product: [C, R] by [R, d], of each group; half: H; order: [T, 2 H C] by
    [2 H C, d]."""

    half: int
    order: LinearPlan

    @property
    def capacity(self) -> int:
        """C."""
        return self.product.product.rows

    @property
    def client_keys(self) -> KeyKinds:
        return tuple(dict.fromkeys((*super().client_keys, *self.order.client_keys)))

    @property
    def order_noise(self) -> Noise:
        """Of putting rows in order, for any shares."""
        return share_noise(self.order.product, own=SERVER_NOISE)

    def cost(self) -> ProtocolCost:
        return product_cost(*[self.product] * (2 * self.half), self.order)

    def _run(
        self,
        party: Party,
        fraction_bits: int,
        ids: NDArray[np.int64] | None = None,
        table: LoadedTable | None = None,
    ) -> Share:
        """[table[ids]], [T, d]."""
        bits = self.output_bits
        if party.is_client:
            placed = self._place(self.wanted(ids))
            for hot in self._one_hot(placed):
                ask(party, self.product, Share(hot, bits))
            where = placed.where.reshape(self.tokens, -1)
            ask(party, self.order, Share(where.astype(np.uint64), bits))
            found = np.concatenate([read_answer(party, self.product) for _ in range(2 * self.half)])
            mine = (where.astype(np.float64) @ found.astype(np.float64)).astype(np.uint64)
            return Share(reduce_ring(mine + read_answer(party, self.order), bits), bits, fraction_bits)
        if table is None or table.plan != self:
            raise ValueError("the server brings the table, loaded for this plan: use load_groups")
        answers = [prepare_answer(party, self.product, None, group) for group in table.groups]
        found = from_ring(np.concatenate([values for _, values in answers]), bits)
        in_order = LoadedWeights(self.order, Columns.of(found), self.order_noise)
        answers.append(prepare_answer(party, self.order, None, in_order))
        for response, _ in answers:
            party.channel.send(response)
        return Share(answers[-1][1], bits, fraction_bits)

    def _place(self, ids: NDArray[np.int64]) -> _Placed:
        """Which takes as long for any ids, as far as a sleep can tell: it happens before anything is sent."""
        end = time.monotonic() + _PLACING * self.tokens
        different, which = np.unique(ids, return_inverse=True)
        first, second = (inverse[different] // self.positions for inverse in _inverses(self.rows))
        choices = np.stack([first, second + self.half], axis=1)
        places = find_places(choices, 2 * self.half, self.capacity)
        where = np.zeros((self.tokens, 2 * self.half, self.capacity), bool)
        put = np.full((2 * self.half, self.capacity), -1, np.int64)
        for token, index in enumerate(which.reshape(-1)):
            where[token][places[index]] = True
            put[places[index]] = different[index]
        time.sleep(max(0.0, end - time.monotonic()))
        return _Placed(put, where)

    def _one_hot(self, placed: _Placed) -> Iterator[NDArray[np.uint64]]:
        """The rows of each group, [C, R]: by comparisons, so that no address depends on an id."""
        for group in range(2 * self.half):
            rows = group_rows(self, group)
            yield (placed.put[group][:, None] == rows).astype(np.uint64)


@dataclass(frozen=True)
class _Placed:
    """put: the id at each place, [2 H, C], or -1. where: whether a token's id is there, [T, 2 H, C]."""

    put: NDArray[np.int64]
    where: NDArray[np.bool_]


@dataclass(frozen=True)
class LoadedTable:
    """The table as the server multiplies by it: each group's part. noise: of a row in order."""

    plan: GroupedPlan
    groups: tuple[LoadedWeights, ...]
    noise: Noise


def find_places(choices: NDArray[np.int64], groups: int, capacity: int) -> list[tuple[int, int]]:
    """A group and a place in it for each item, of the two groups that it may choose, [items, 2], places below capacity:
    by shortest augmenting paths, so one is found where there is any. ValueError where there is none."""
    held: list[list[int]] = [[] for _ in range(groups)]
    pairs = choices.tolist()
    for item, pair in enumerate(pairs):
        # Of each group that was reached, which item would move there, and from where.
        came: dict[int, tuple[int, int] | None] = dict.fromkeys(pair)
        queue = deque(came)
        while queue and len(held[queue[0]]) == capacity:
            group = queue.popleft()
            for other in held[group]:
                to = pairs[other][0] if pairs[other][1] == group else pairs[other][1]
                if to not in came:
                    came[to] = other, group
                    queue.append(to)
        if not queue:
            raise ValueError(
                "too many of these tokens stand near each other in the table's arrangements to be looked up together, "
                "which happens by chance once in 10^12 prompts: split the text, or change some of its words"
            )
        group = queue[0]
        while (step := came[group]) is not None:
            held[step[1]].remove(step[0])
            held[group].append(step[0])
            group = step[1]
        held[group].append(item)
    places = {item: (group, place) for group, items in enumerate(held) for place, item in enumerate(items)}
    return [places[item] for item in range(len(pairs))]


def chance_to_miss(items: int, half: int, capacity: int) -> float:
    """That no places are found, at most, for any items and random arrangements of 2 `half` groups.

    By Hall's theorem some s groups of one and u of the other then have more than C (s + u) items of their own. Whether
    items are in s of H groups of one arrangement and in u of the other are negatively associated events (Joag-Dev and
    Proschan 1983), to which Chernoff's bound applies; summed over all s and u.
    """
    chance = 0.0
    for s in range(1, half + 1):
        for u in range(1, half + 1):
            part, all_of = (capacity * (s + u) + 1) / items, s * u / half**2
            if part > 1:
                continue
            exponent = 0.0
            if part > all_of:
                exponent = part * math.log(part / all_of)
                exponent += (1 - part) * math.log((1 - part) / (1 - all_of)) if part < 1 else 0
            chance += math.exp(_log_choices(half, s) + _log_choices(half, u) - items * exponent)
    return chance


def _log_choices(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


@lru_cache(maxsize=1024)
def capacity_for(items: int, half: int) -> int:
    """The smallest that misses with a probability of at most `MISSED`."""
    capacity = -(-items // (2 * half))
    while chance_to_miss(items, half, capacity) > MISSED:
        capacity += 1
    return capacity


@lru_cache(maxsize=8)
def arrangements(rows: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Two permutations of the rows: the row at each position, int64 [V]. Public, the same for all tables of V rows."""
    first, second = (
        np.argsort(Prg(_SEED, f"arrangement {i} of {rows} rows").uniform(rows, 64), kind="stable") for i in range(2)
    )
    return first, second


@lru_cache(maxsize=8)
def _inverses(rows: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each row stands in either arrangement."""
    first, second = (np.argsort(order) for order in arrangements(rows))
    return first, second


def group_rows(plan: GroupedPlan, group: int) -> NDArray[np.int64]:
    """Which row of the table is at each position of a group, int64 [R]; V and more where there is none."""
    order = arrangements(plan.rows)[group // plan.half]
    start = group % plan.half * plan.positions
    rows = np.arange(plan.rows + start, plan.rows + start + plan.positions)
    present = order[start : start + plan.positions]
    rows[: len(present)] = present
    return rows


def arranged(columns: NDArray[Any], rows: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """The columns of a table [d, V or more] in both arrangements, [d, V + MAX_HALF - 1], zeros last, as any plan cuts
    them."""
    shape = (columns.shape[0], rows + MAX_HALF - 1, *columns.shape[2:])
    parts = math.prod(columns.shape[2:])  # of a number; numbers of three bytes are not gathered quickly
    both = np.zeros(shape, columns.dtype), np.zeros(shape, columns.dtype)
    for arranged_so, order in zip(both, arrangements(rows), strict=True):
        at = (parts * order[:, None] + np.arange(parts)).reshape(-1)
        for column, out in zip(columns, arranged_so, strict=True):
            np.take(column.reshape(-1), at, out=out.reshape(-1)[: len(at)], mode="clip")
    return both


def load_groups(plan: GroupedPlan, both: Sequence[NDArray[Any]], noise: Noise) -> LoadedTable:
    """The table as `arranged`; noise: of a row in order. NoRoomError where it could exceed the plan's."""
    require_noise(noise, plan.product.max_error)
    starts = range(0, plan.half * plan.positions, plan.positions)
    parts = [Columns((columns[:, start : start + plan.positions],)) for columns in both for start in starts]
    return LoadedTable(plan, tuple(LoadedWeights(plan.product, part, noise) for part in parts), noise)


def plan_grouped(
    tokens: int, rows: int, columns: int, output_bits: int, params: Params, max_error: float, bytes_per_second: float
) -> tuple[float, GroupedPlan] | None:
    """The cheapest in predicted seconds, and those, of a server with AVX-512. None where nothing fits."""
    best: tuple[float, GroupedPlan] | None = None
    halves = [1 << k for k in range(1, MAX_HALF.bit_length())] if output_bits <= MAX_BITS else []
    for half in halves:
        capacity = capacity_for(tokens, half)
        if half >= rows or capacity >= tokens:
            continue
        try:
            shape = capacity, -(-rows // half), columns
            product = plan_matmul(params, *shape, output_bits, bytes_per_second=bytes_per_second)
            order = _plan_order(tokens, 2 * half * capacity, columns, output_bits, bytes_per_second)
        except NoTiling:
            continue
        seconds = sum(
            many * cost_of(plan, bytes_per_second=bytes_per_second).seconds
            for many, plan in ((2 * half, product), (1, order.product))
        )
        if best is None or seconds < best[0]:
            best = seconds, GroupedPlan(tokens, rows, columns, LinearPlan(product, False, max_error), half, order)
    return best


def _plan_order(tokens: int, places: int, columns: int, bits: int, bytes_per_second: float) -> LinearPlan:
    for params in PARAMS:
        product = plan_matmul(params, tokens, places, columns, bits, bytes_per_second=bytes_per_second)
        noise = share_noise(product, own=SERVER_NOISE)
        if noise.known <= MAX_KNOWN and noise.total <= MAX_ORDER_ERROR:
            return LinearPlan(product, False, MAX_ORDER_ERROR)
    raise NoTiling(f"no modulus hides shares of {bits} bits while rows are put in order")
