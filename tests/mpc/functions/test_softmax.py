"""Softmax on real shares against float64, at the declared cost."""

import math

import numpy as np
import pytest

from aero.graph.heads import causal_mask
from aero.graph.ops.softmax import softmax as exact_softmax
from aero.mpc.functions.score_rows import ScoreRows
from aero.mpc.functions.softmax import SoftmaxPlan, plan_softmax
from aero.mpc.protocols.keys import exchange_keys
from mpc.ots import Outcome, run_with_ots, split

OUT = dict(output_bits=20, output_fraction=18)


def one_prompt(heads: int, queries: int, keys: int) -> ScoreRows:
    return ScoreRows(heads, ((queries, keys),))


def run(plan: SoftmaxPlan, scores: np.ndarray) -> Outcome:
    held = np.rint(scores * 2.0**plan.input_fraction).astype(np.int64)
    return run_with_ots(
        lambda party: plan.run(party, split(party, held, plan.input_bits, plan.input_fraction)),
        before=lambda party: exchange_keys(party, plan.client_keys, plan.server_keys),
    )


def scores_of(shape: tuple[int, int, int], limit: float) -> np.ndarray:
    """Heads in turn: flat, soft, sharp with a spread of 100 and more, scores at both ends of the ring."""
    rng = np.random.default_rng(0)
    heads = [np.zeros(shape[1:]), rng.normal(0, 2, shape[1:]), rng.normal(0, 40, shape[1:])]
    heads.append(np.where(rng.random(shape[1:]) < 0.05, limit, -limit))
    scores = np.stack([heads[h % 4] for h in range(shape[0])])
    return np.clip(scores, -limit, limit)


@pytest.mark.parametrize(
    "shape, whole, fraction, base",
    [
        ((4, 40, 40), 9, 14, 2.0),
        ((8, 1, 128), 8, 14, 2.0),
        ((4, 5, 30), 9, 14, math.e),
        ((4, 6, 6), 7, 4, 2.0),
        ((4, 6, 6), 10, 18, 2.0),
        ((4, 9, 9), 3, 14, 2.0),
        ((4, 3, 3), 46, 18, 2.0),
        ((4, 3, 3), 46, 18, math.e),
        ((4, 6, 6), 8, 3, math.e),
        ((1, 1, 1), 8, 14, 2.0),
        ((3, 2, 2), 8, 14, 2.0),
    ],
)
def test_softmax_is_right_to_the_ends_of_the_ring(shape, whole, fraction, base):
    plan = plan_softmax(one_prompt(*shape), whole + fraction, fraction, **OUT, base=base)
    limit = plan.largest_score
    assert limit >= (2.0 ** (whole - 1) if whole < 40 else 2.0**20) - 0.25
    scores = np.floor(scores_of(shape, limit) * 2.0**fraction) / 2.0**fraction
    outcome = run(plan, scores)
    probabilities, exact = outcome.real, exact_softmax(scores, base)
    assert np.abs(probabilities - exact).max() <= min(plan.max_error + plan.missed, 5e-4)
    assert np.abs(probabilities.sum(axis=-1) - 1).max() <= 1e-3
    dead = ~np.broadcast_to(causal_mask(*shape[1:]), shape)
    assert all((share.values[dead] == 0).all() for share in outcome.results)
    assert (probabilities[far_below(scores, base, plan)] == 0).all()
    assert outcome.cost == plan.cost()


def far_below(scores: np.ndarray, base: float, plan: SoftmaxPlan) -> np.ndarray:
    """Live scores that are below the reach of their row, however their coarse value came out."""
    s = np.where(causal_mask(*scores.shape[1:]), scores, -np.inf) * math.log2(base)
    reach = plan.reach.reshape(*scores.shape[:2], 1)
    return np.isfinite(s) & (s < s.max(axis=-1, keepdims=True) - reach - 3 * plan.step)


@pytest.mark.parametrize("queries, keys", [(1, 1024), (2, 500), (1, 256)])
def test_long_rows(queries, keys):
    plan = plan_softmax(one_prompt(4, queries, keys), 22, 14, **OUT)
    scores = np.rint(scores_of((4, queries, keys), 127.0) * 2.0**14) / 2.0**14
    outcome = run(plan, scores)
    assert np.abs(outcome.real - exact_softmax(scores, 2.0)).max() <= 5e-4
    assert np.abs(outcome.real.sum(axis=-1) - 1).max() <= 1e-3
    assert outcome.cost == plan.cost()


def test_rows_of_up_to_512_take_one_prime_for_hardly_a_larger_error():
    half, whole, beyond = (plan_softmax(one_prompt(12, n, n), 22, 14, **OUT) for n in (256, 512, 513))
    assert [len(plan.power.fields) for plan in (half, whole, beyond)] == [1, 1, 2]
    assert whole.max_error < 1.1 * half.max_error and whole.missed < 7e-3
    assert whole.cost().total_bytes < 0.7 * beyond.cost().total_bytes


@pytest.mark.parametrize("prompts", [((9, 9),), ((1, 40),), ((7, 3), (2, 5))])
def test_without_a_mask_every_score_counts(prompts):
    rows = ScoreRows(2, prompts, causal=False)
    plan = plan_softmax(rows, 22, 14, **OUT)
    apart = [np.rint(np.random.default_rng(0).normal(0, 3, (2, q, k)) * 2.0**14) / 2.0**14 for q, k in prompts]
    scores = np.concatenate([s.reshape(-1) for s in apart]).reshape(rows.shape)
    outcome = run(plan, scores)
    exact = np.concatenate([exact_softmax(s, 2.0, "none").reshape(-1) for s in apart]).reshape(rows.shape)
    assert np.abs(outcome.real - exact).max() <= plan.max_error + plan.missed
    assert outcome.cost == plan.cost()


def test_scores_just_below_the_reach_are_missed_and_no_more():
    """The worst row: one score at the top, and all others where they just do not count."""
    plan = plan_softmax(one_prompt(1, 1, 128), 22, 14, **OUT)
    scores = np.full((1, 1, 128), -plan.reach[0] - 3 * plan.step)
    scores[..., 5] = 0.0
    found = run(plan, scores).real
    assert found[0, 0, 5] == pytest.approx(1.0, abs=plan.max_error)
    assert np.count_nonzero(found) == 1
    assert np.abs(found - exact_softmax(scores, 2.0)).max() <= plan.max_error + plan.missed


def test_gpt2_small_takes_at_most_14_megabytes():
    cost = plan_softmax(one_prompt(12, 128, 128), 22, 14, **OUT).cost()
    assert cost.total_bytes <= 14e6
    assert cost.rounds <= 50


def test_what_it_refuses():
    with pytest.raises(ValueError, match="base"):
        plan_softmax(one_prompt(1, 2, 2), 22, 14, **OUT, base=3.0)
    with pytest.raises(ValueError, match="fractional bits"):
        plan_softmax(one_prompt(1, 2, 2), 64, 40, **OUT, base=math.e)
    with pytest.raises(ValueError, match="do not fit"):
        plan_softmax(one_prompt(1, 2, 2), 22, 14, output_bits=19, output_fraction=18)
    with pytest.raises(ValueError, match="no more queries than keys"):
        plan_softmax(one_prompt(1, 3, 2), 22, 14, **OUT)
    plan = plan_softmax(one_prompt(1, 2, 2), 22, 14, **OUT)
    with pytest.raises(ValueError, match="the plan is for"):
        run_with_ots(lambda party: plan.run(party, split(party, np.zeros((1, 2, 2), np.int64), 22, 14)))
