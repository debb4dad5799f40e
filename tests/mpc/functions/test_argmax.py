"""The largest of shared numbers against numpy, at the declared cost."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aero.mpc.functions.argmax import TopKPlan
from aero.mpc.party import Role
from mpc.ots import Outcome, run_with_ots, split


def run(plan: TopKPlan, x: np.ndarray) -> tuple[Outcome, np.ndarray, np.ndarray]:
    """What was counted, the numbers and their indices."""
    outcome = run_with_ots(lambda party: plan.run(party, split(party, x, plan.bits, plan.fraction_bits)))
    values, places = (Outcome(list(pair), outcome.cost, []) for pair in zip(*outcome.results, strict=True))
    return outcome, values.signed, places.total.astype(np.int64)


def numbers(count: int, bits: int, seed: int = 0) -> np.ndarray:
    """All over the half of the ring that is allowed, its ends among them."""
    limit = 2 ** (bits - 2) - 1
    x = np.random.default_rng(seed).integers(-limit, limit, count, endpoint=True)
    x[:1], x[-1:] = -limit, limit
    return x


@pytest.mark.parametrize("count", [1, 2, 3, 7, 64, 1001])
@pytest.mark.parametrize("bits", [9, 25, 41])
def test_argmax(count, bits):
    plan, x = TopKPlan(count, 1, bits, 3), numbers(count, bits)
    outcome, values, places = run(plan, x)
    assert (places.item(), values.item()) == (x.argmax(), x.max())
    assert outcome.cost == plan.cost()
    assert plan.comparisons == count - 1 and plan.levels == (count - 1).bit_length()


@pytest.mark.parametrize("count, k", [(2, 2), (3, 3), (10, 2), (37, 3), (100, 4), (50, 7), (257, 8), (9, 9), (40, 33)])
def test_top_k(count, k):
    plan, x = TopKPlan(count, k, 20), numbers(count, 20, seed=k)
    outcome, values, places = run(plan, x)
    np.testing.assert_array_equal(values, np.sort(x)[::-1][:k])
    np.testing.assert_array_equal(x[places], values)
    assert len(set(places)) == k
    assert outcome.cost == plan.cost()


@settings(max_examples=25)
@given(st.lists(st.integers(-2, 2), min_size=1, max_size=12), st.integers(1, 12))
def test_equal_numbers(x, k):
    x, k = np.array(x), min(k, len(x))
    _, values, places = run(TopKPlan(len(x), k, 8), x)
    np.testing.assert_array_equal(values, np.sort(x)[::-1][:k])
    np.testing.assert_array_equal(x[places], values)
    assert len(set(places)) == k
    if k == 1:
        assert places.item() == x.argmax()  # the first of them


def test_fewer_comparisons_than_a_tournament_for_each():
    for k in (2, 4, 16, 64):
        plan, single = TopKPlan(50257, k, 25), TopKPlan(50257, 1, 25)
        assert plan.levels < k * single.levels
        assert plan.comparisons < k * single.comparisons or k == 2


def test_a_vocabulary():
    """GPT-2's, and what docs/operate/serving.md states of it."""
    plan, x = TopKPlan(50257, 1, 25), numbers(50257, 25)
    outcome, values, places = run(plan, x)
    assert (places.item(), values.item()) == (x.argmax(), x.max())
    assert outcome.cost == plan.cost()
    assert plan.cost().rounds == 16 * 6


@pytest.mark.parametrize("count, k, bits", [(5, 6, 20), (5, 0, 20), (5, 1, 2), (5, 1, 65)])
def test_plans_that_make_no_sense(count, k, bits):
    with pytest.raises(ValueError, match=r"largest|ring"):
        TopKPlan(count, k, bits)


def test_other_numbers_than_planned_are_refused():
    with pytest.raises(ValueError, match="this plan is for 5"):
        run(TopKPlan(5, 1, 20), numbers(6, 20))


def test_bytes_and_counts_depend_on_no_secret():
    plan = TopKPlan(45, 3, 20)
    sent = [run(plan, x)[0].sent for x in (numbers(45, 20), np.zeros(45, np.int64), np.arange(45), -np.arange(45))]
    sizes = [[[len(frame) for frame in sent_by[role]] for role in Role] for sent_by in sent]
    assert all(found == sizes[0] for found in sizes)
