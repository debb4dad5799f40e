"""Look-ups of many ids in groups: the right rows at the declared cost, places where there are any, how rarely not."""

import itertools

import numpy as np
import pytest

from aero.kernels.lattice_cost import cost_of
from aero.kernels.rlwe import WEIGHTS
from aero.mpc.party import Party, Role
from aero.mpc.protocols import embedding, grouped_embedding
from aero.mpc.protocols.embedding import MAX_ERROR, EmbeddingPlan, plan_embedding
from aero.mpc.protocols.grouped_embedding import (
    MISSED,
    GroupedPlan,
    arrangements,
    capacity_for,
    chance_to_miss,
    find_places,
    group_rows,
    plan_grouped,
)
from mpc.tables import assert_looks_up, load_table


def grouped(tokens: int, rows: int, columns: int, bits: int) -> GroupedPlan:
    found = plan_grouped(tokens, rows, columns, bits, WEIGHTS, MAX_ERROR, embedding.NETWORK_RATE)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("half", [2, 4])
@pytest.mark.parametrize("tokens, rows, columns, bits", [(40, 301, 6, 22), (24, 64, 9, 27), (40, 1000, 3, 25)])
def test_the_rows_of_the_ids(tokens, rows, columns, bits, half, monkeypatch):
    monkeypatch.setattr(grouped_embedding, "MAX_HALF", half)
    monkeypatch.setattr(grouped_embedding, "capacity_for", lambda items, half: -(-items // half))
    plan = grouped(tokens, rows, columns, bits)
    rng = np.random.default_rng(rows)
    table = rng.integers(-(1 << 18), 1 << 18, (rows, columns))
    ids = rng.integers(rows, size=tokens)
    ids[[0, -1]] = rows - 1, 0
    ids[1:8] = ids[9]
    assert_looks_up(plan, table, ids)
    assert plan.cost().rounds == 2 and plan.cost().ots_from_server == 0


def test_groups_are_taken_for_many_ids_of_a_large_table():
    kinds = [type(plan_embedding(tokens, 50_257, 768, 27)) for tokens in (1, 8, 128, 1024)]
    assert kinds == [EmbeddingPlan, EmbeddingPlan, GroupedPlan, GroupedPlan]
    assert isinstance(plan_embedding(128, 500, 64, 27), EmbeddingPlan)
    assert isinstance(plan_embedding(128, 50_257, 768, 27, opened=True), EmbeddingPlan)


@pytest.mark.parametrize("tokens, fewer", [(128, 6), (512, 25)])
def test_groups_multiply_less_and_send_no_more(tokens, fewer, monkeypatch):
    groups = plan_embedding(tokens, 50_257, 768, 27)
    monkeypatch.setattr(embedding, "plan_grouped", lambda *_: None)
    blocks = plan_embedding(tokens, 50_257, 768, 27)
    many = 2 * groups.half * cost_of(groups.product.product).multiplications
    assert fewer * many < cost_of(blocks.product.product).multiplications
    assert groups.cost().total_bytes < blocks.cost().total_bytes


def test_each_row_is_in_one_group_of_each_arrangement():
    plan = grouped(40, 301, 6, 22)
    for groups in (range(plan.half), range(plan.half, 2 * plan.half)):
        rows = np.concatenate([group_rows(plan, group) for group in groups])
        assert sorted(rows[rows < 301]) == list(range(301)) and len(set(rows)) == len(rows)
    first, second = arrangements(301)
    assert (first != second).mean() > 0.9


def possible(choices: np.ndarray, groups: int, capacity: int) -> bool:
    """By trying all choices."""
    for chosen in itertools.product((0, 1), repeat=len(choices)):
        taken = choices[np.arange(len(choices)), list(chosen)]
        if np.bincount(taken, minlength=groups).max() <= capacity:
            return True
    return False


@pytest.mark.parametrize("seed", range(40))
def test_places_are_found_where_there_are_any(seed):
    rng = np.random.default_rng(seed)
    half, capacity, items = 3, 2, 8 + seed % 3
    choices = np.stack([rng.integers(half, size=items), half + rng.integers(half, size=items)], axis=1)
    if not possible(choices, 2 * half, capacity):
        with pytest.raises(ValueError, match="split the text"):
            find_places(choices, 2 * half, capacity)
        return
    places = find_places(choices, 2 * half, capacity)
    assert len(set(places)) == items
    assert all(group in choices[item] and place < capacity for item, (group, place) in enumerate(places))


@pytest.mark.parametrize("items, half, capacity", [(12, 2, 4), (16, 4, 3), (30, 4, 4)])
def test_places_are_missed_no_more_often_than_stated(items, half, capacity):
    rng, missed, trials = np.random.default_rng(items), 0, 2000
    for _ in range(trials):
        choices = np.stack([rng.integers(half, size=items), half + rng.integers(half, size=items)], axis=1)
        try:
            find_places(choices, 2 * half, capacity)
        except ValueError:
            missed += 1
    chance = chance_to_miss(items, half, capacity)
    assert missed / trials <= min(1, chance) + 4 * np.sqrt(chance / trials)
    assert missed > 0  # so that the bound is tried


def test_capacities_are_the_smallest_that_the_bound_allows():
    for items, half in ((64, 8), (128, 16), (512, 64), (1024, 64)):
        capacity = capacity_for(items, half)
        assert chance_to_miss(items, half, capacity) <= MISSED < chance_to_miss(items, half, capacity - 1)
    assert chance_to_miss(16, 4, 16) == 0


def crowded(plan: GroupedPlan) -> np.ndarray:
    """More ids of one pair of groups than both have places."""
    both = set(group_rows(plan, 0)) & set(group_rows(plan, plan.half))
    return np.array(sorted(both)[: 2 * plan.capacity + 1])


def test_ids_without_places_are_refused_before_anything_is_sent():
    plan = grouped(40, 20_000, 4, 22)
    ids = crowded(plan)
    assert len(ids) == 2 * plan.capacity + 1 <= plan.tokens
    given = np.concatenate([ids, np.full(plan.tokens - len(ids), ids[0])])
    with pytest.raises(ValueError, match="split the text"):
        plan.run(Party(Role.CLIENT, None), 16, given)


def test_ids_outside_the_table_are_refused():
    plan = grouped(40, 301, 4, 22)
    party = Party(Role.CLIENT, None)
    for ids in (np.full(40, 301), np.full(40, -1), np.array([0]), None):
        with pytest.raises(ValueError, match="40 ids from 0 to 300"):
            plan.run(party, 16, ids)


def test_the_server_brings_the_table_of_this_plan():
    plan, other = grouped(40, 301, 4, 22), grouped(40, 301, 4, 24)
    table = load_table(other, np.zeros((301, 4), np.int64))
    with pytest.raises(ValueError, match="loaded for this plan"):
        plan.run(Party(Role.SERVER, None), 16, table=table)
