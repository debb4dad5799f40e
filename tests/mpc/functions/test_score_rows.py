"""Layouts: every live entry has a place of its own, rows keep their slots, and tournaments find maxima."""

import numpy as np
import pytest

from aero.graph.heads import live_mask
from aero.mpc.functions.score_rows import ScoreRows, plan_slots

SHAPES = [(12, (128, 128)), (1, (1, 1)), (3, (1, 77)), (2, (5, 9)), (1, (2, 2)), (25, (40, 1000))]
SHAPES += [(2, (1, 9), (3, 3), (1, 40)), (3, (20, 20), (1, 1), (5, 7))]  # several prompts


def rows_of(shape: tuple) -> ScoreRows:
    return ScoreRows(shape[0], shape[1:])


@pytest.mark.parametrize("mask", ["causal", "none"])
@pytest.mark.parametrize("shape", SHAPES)
def test_entries_are_the_live_scores(shape, mask):
    heads, *prompts = shape
    rows = ScoreRows(heads, tuple(prompts), causal=mask == "causal")
    live = [np.broadcast_to(live_mask(q, k, mask=mask), (heads, q, k)) for q, k in prompts]
    np.testing.assert_array_equal(np.sort(rows.place), np.flatnonzero(np.concatenate([m.reshape(-1) for m in live])))
    numbers = iter(range(rows.rows))
    row = [
        np.repeat([next(numbers) for _ in range(heads * q)], m.reshape(-1, k).sum(axis=1))
        for (q, k), m in zip(prompts, live, strict=True)
    ]
    np.testing.assert_array_equal(rows.row, np.concatenate(row))
    np.testing.assert_array_equal(rows.head, np.concatenate([np.arange(heads).repeat(q) for q, _ in prompts]))
    assert rows.shape == (live[0].shape if len(live) == 1 else (sum(m.size for m in live),))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("players", [(2,) * 10, (3, 7, 5, 10), (16, 16, 16)])
def test_a_tournament_leaves_the_maximum_of_each_row(shape, players):
    rows = rows_of(shape)
    scores = np.random.default_rng(0).normal(size=rows.entries)
    left = scores
    for level in rows.tournament(players):
        assert set(level.groups.reshape(-1)) | set(level.bye) == set(range(left.size))
        left = np.concatenate([left[level.groups].max(axis=1), left[level.bye]])[level.order]
    np.testing.assert_array_equal(left, np.maximum.reduceat(scores, rows.starts))


def test_a_tournament_has_an_end():
    with pytest.raises(ValueError, match="leave 3"):
        ScoreRows(1, ((1, 9),)).tournament((3,))


@pytest.mark.parametrize("shape", SHAPES)
def test_sums_over_ciphertexts_are_sums_of_rows(shape):
    rows = rows_of(shape)
    slots = plan_slots(rows, 8192, 16)
    values = np.random.default_rng(0).integers(0, 2**50, rows.entries, np.uint64)
    cells = slots.spread(values)
    assert cells.shape == (len(slots.banks), slots.groups, slots.used) and slots.used <= 8192
    np.testing.assert_array_equal(slots.gather(cells), values)
    np.testing.assert_array_equal(slots.row_sums(cells.sum(axis=1)), np.add.reduceat(values, rows.starts))


def test_few_ciphertexts():
    slots = plan_slots(ScoreRows(12, ((128, 128),)), 8192, 16)
    assert (slots.groups, len(slots.banks), slots.used) == (14, 1, 7800)


def test_a_row_that_fits_nowhere_is_refused():
    with pytest.raises(ValueError, match="does not fit"):
        plan_slots(ScoreRows(1, ((1, 20),)), 4, 4)
    with pytest.raises(ValueError, match="no more queries than keys"):
        ScoreRows(1, ((3, 2),))
    assert ScoreRows(1, ((3, 2),), causal=False).lengths.tolist() == [2, 2, 2]
