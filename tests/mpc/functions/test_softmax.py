"""Causal softmax on real shares against float64, at the declared cost."""

import math

import numpy as np
import pytest

from aero.graph.interpret import causal_mask
from aero.graph.interpret import causal_softmax as exact_softmax
from aero.mpc.functions.softmax import SoftmaxPlan, causal_softmax, plan_softmax
from aero.mpc.protocols.keys import exchange_keys
from mpc.ots import Outcome, run_with_ots, split

OUT = dict(output_bits=20, output_fraction=18)


def run(plan: SoftmaxPlan, scores: np.ndarray) -> Outcome:
    held = np.rint(scores * 2.0**plan.input_fraction).astype(np.int64)
    return run_with_ots(
        lambda party: causal_softmax(party, plan, split(party, held, plan.input_bits, plan.input_fraction)),
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
    "shape, base", [((4, 40, 40), 2.0), ((8, 1, 128), 2.0), ((4, 5, 30), math.e), ((1, 1, 1), 2.0), ((3, 2, 2), 2.0)]
)
def test_softmax(shape, base):
    bits, fraction = 14 + 9, 14
    plan = plan_softmax(*shape, input_bits=bits, input_fraction=fraction, base=base, **OUT)
    scores = scores_of(shape, 2.0 ** (bits - 1 - fraction) - 0.5)
    scores = np.rint(scores * 2.0**fraction) / 2.0**fraction
    outcome = run(plan, scores)
    exact = exact_softmax(scores, base)
    assert np.abs(outcome.real - exact).max() <= plan.max_error + plan.missed
    assert np.abs(outcome.real - exact).max() <= 5e-4
    assert np.abs(outcome.real.sum(axis=-1) - 1).max() <= 1e-3
    dead = ~np.broadcast_to(causal_mask(*shape[1:]), shape)
    assert all((share.values[dead] == 0).all() for share in outcome.results)
    assert outcome.cost == plan.cost()
