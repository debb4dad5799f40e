"""Softmax without maxima, in a public window: against float64 inside, at the ends and outside, at the declared cost."""

import math

import numpy as np
import pytest

from aero.graph.heads import causal_mask
from aero.graph.ops.softmax import softmax as exact_softmax
from aero.mpc.functions.softmax import MARGIN, SPAN, MaximaWindow, SoftmaxPlan, cheapest, plan_softmax, window_of
from mpc.functions.test_softmax import OUT, one_prompt, run

TOPS = (3.0, -20.25, 60.5, 0.0)
STEP = 2.0**-14
WINDOW = MaximaWindow(TOPS)


def with_maxima(shape: tuple[int, int, int], below: np.ndarray, spread: float, seed: int = 0) -> np.ndarray:
    """Scores whose row maxima lie `below` [heads, queries] their head's top: normal ones of this spread, with steps."""
    rng = np.random.default_rng(seed)
    scores = np.where(causal_mask(*shape[1:]), rng.normal(0, spread, shape), -np.inf)
    scores += np.array(TOPS)[: shape[0], None, None] - below[..., None] - scores.max(axis=-1, keepdims=True)
    limit = 127.75
    return np.rint(np.clip(np.where(np.isfinite(scores), scores, 0.0), -limit, limit) * 2.0**14) / 2.0**14


def bound(plan: SoftmaxPlan) -> float:
    return plan.max_error + plan.missed


@pytest.mark.parametrize("shape", [(4, 1, 128), (4, 24, 24), (2, 3, 300), (1, 1, 1)])
@pytest.mark.parametrize("spread", [0.0, 3.0, 60.0])
def test_inside_the_window(shape, spread):
    plan = plan_softmax(one_prompt(*shape), 22, 14, **OUT, window=MaximaWindow(TOPS[: shape[0]]))
    below = np.linspace(STEP, SPAN, shape[0] * shape[1]).reshape(shape[:2])
    scores = with_maxima(shape, below, spread)
    outcome = run(plan, scores)
    assert np.abs(outcome.real - exact_softmax(scores, 2.0)).max() <= bound(plan) < 7e-4
    assert np.abs(outcome.real.sum(axis=-1) - 1).max() <= 1e-3
    dead = ~np.broadcast_to(causal_mask(*shape[1:]), shape)
    assert all((share.values[dead] == 0).all() for share in outcome.results)
    assert outcome.cost == plan.cost()


@pytest.mark.parametrize("below", [STEP, SPAN], ids=["top", "bottom"])
def test_at_the_ends_of_the_window(below):
    plan = plan_softmax(one_prompt(4, 8, 64), 22, 14, **OUT, window=WINDOW)
    for spread in (0.0, 1.0, 20.0):
        scores = with_maxima((4, 8, 64), np.full((4, 8), below), spread, seed=1)
        assert np.abs(run(plan, scores).real - exact_softmax(scores, 2.0)).max() <= bound(plan)


def test_base_e():
    plan = plan_softmax(one_prompt(4, 1, 40), 22, 14, **OUT, base=math.e, window=WINDOW)
    scores = with_maxima((4, 1, 40), np.array([[0.5], [8.0], [16.0], [SPAN - 0.1]]), 4.0)
    scores = np.rint(scores * math.log(2) * 2.0**14) / 2.0**14
    assert np.abs(run(plan, scores).real - exact_softmax(scores, math.e)).max() <= bound(plan)


def test_scores_above_are_held_at_the_top():
    """Every score above counts as one a step above the top; close to the top, either as that or as itself."""
    plan = plan_softmax(one_prompt(4, 1, 64), 22, 14, **OUT, window=WINDOW)
    rng = np.random.default_rng(2)
    scores = with_maxima((4, 1, 64), np.full((4, 1), STEP), 3.0)
    above = rng.random(scores.shape) < 0.1
    tops = np.array(TOPS)[:, None, None]
    scores = np.where(above, np.minimum(tops + rng.uniform(0.5, 150, scores.shape), 127.75), scores - plan.step)
    held = np.where(above, tops + plan.step, scores)
    found = run(plan, scores).real
    assert np.abs(found - exact_softmax(held, 2.0)).max() <= bound(plan)

    near = np.where(above, tops + rng.uniform(0, 0.25, scores.shape), scores)
    found = run(plan, near).real
    low, high = exact_softmax(near, 2.0), exact_softmax(np.where(above, tops + plan.step, near), 2.0)
    assert (found <= np.maximum(low, high) * 2**plan.step + bound(plan)).all()
    assert (found >= np.minimum(low, high) * 2**-plan.step - bound(plan)).all()


def test_rows_below_the_window_fade():
    """No probability is larger than it ought to be, and what is below the reach is 0."""
    plan = plan_softmax(one_prompt(4, 110, 110), 22, 14, **OUT, window=WINDOW)
    below = np.broadcast_to(np.linspace(SPAN, 70, 110), (4, 110))
    for spread in (0.0, 4.0):
        scores = with_maxima((4, 110, 110), below, spread)
        found = run(plan, scores).real
        counting = np.where(
            scores - np.array(TOPS)[:, None, None] >= -plan.reach.reshape(4, 110, 1) - 0.5, scores, -1e3
        )
        largest = exact_softmax(counting, 2.0)
        assert (found >= -plan.max_error).all()
        assert (found <= largest * 2**0.5 + plan.max_error).all()
        assert (found[counting == -1e3] == 0).all()
        assert (found.sum(axis=-1) <= 1 + 2e-3).all()


def test_ends_of_the_ring_and_a_window_beyond_it():
    for tops in (TOPS, (200.0, -150.0, 0.0, 127.0)):
        plan = plan_softmax(one_prompt(4, 6, 6), 22, 14, **OUT, window=MaximaWindow(tops))
        scores = np.where(np.random.default_rng(3).random((4, 6, 6)) < 0.5, 128 - 2.0**-14, -128.0)
        held = np.minimum(scores, np.array(tops)[:, None, None] + plan.step)
        counts = held - np.array(tops)[:, None, None] >= -plan.reach.reshape(4, 6, 1)
        counts[:, 0, 0], held[:, 0] = True, np.array(tops)[:, None]  # a row of one key
        found = run(plan, scores).real
        assert (found[~counts] == 0).all()
        assert (found >= -plan.max_error).all() and (found.sum(axis=-1) <= 1 + 2e-3).all()
        inside = (counts & (held >= np.array(tops)[:, None, None] - SPAN) & causal_mask(6, 6)).any(axis=-1)
        assert np.abs(found - exact_softmax(held, 2.0))[inside].max(initial=0.0) <= bound(plan)


@pytest.mark.parametrize("score", [-128.0, -3.0, 127.75])
def test_the_only_score_of_a_row_may_lie_anywhere(score):
    plan = plan_softmax(one_prompt(4, 3, 3), 22, 14, **OUT, window=WINDOW)
    scores = with_maxima((4, 3, 3), np.full((4, 3), 5.0), 2.0)
    scores[:, 0, 0] = score
    assert np.abs(run(plan, scores).real - exact_softmax(scores, 2.0)).max() <= bound(plan)


def test_windows_of_heads():
    window = window_of([(-3.0, 2.0), (0.0, 10.0)], math.e)
    assert window is not None
    for (low, high), top in zip([(-3.0, 2.0), (0.0, 10.0)], window.tops, strict=True):
        above, below = top - high / math.log(2), low / math.log(2) - (top - SPAN)
        assert above >= MARGIN and below >= MARGIN - 0.25
        assert abs(above - below) <= 0.5
    assert window_of([(0.0, 1.0), (0.0, SPAN - 2 * MARGIN)], 2.0) is not None
    assert window_of([(0.0, 1.0), (0.0, SPAN - 2 * MARGIN + 0.01)], 2.0) is None
    assert window_of([(0.0, math.nan)], 2.0) is None


def test_it_pays_for_one_query_and_not_for_many():
    for queries, expected in ((1, WINDOW), (128, None)):
        plans = [plan_softmax(one_prompt(4, queries, 128), 22, 14, **OUT, window=window) for window in (None, WINDOW)]
        assert cheapest(plans).window == expected
    assert plans[1].cost().rounds <= 20


def test_what_it_refuses():
    with pytest.raises(ValueError, match="heads"):
        plan_softmax(one_prompt(3, 2, 2), 22, 14, **OUT, window=WINDOW)
    for top in (0.1, math.inf, math.nan):
        with pytest.raises(ValueError, match="multiples"):
            MaximaWindow((top,))
