"""1 / sqrt over whole ranges, at the declared error and cost."""

import numpy as np
import pytest

from aero.mpc.functions.inverse_sqrt import MAX_RELATIVE_ERROR, InverseSqrtPlan
from mpc.ots import run_with_ots, split


@pytest.mark.parametrize(
    "lowest, highest, factor", [(1, 1000, 1.0), (8053, 2**49, 1.7), (2**15, 2**41 - 1, 1.3), (77, 77, 2.0), (1, 2, 1.0)]
)
def test_over_the_whole_range(lowest, highest, factor):
    rng = np.random.default_rng(lowest)
    v = np.exp(rng.uniform(np.log(lowest), np.log(highest), 1500)).astype(np.int64).clip(lowest, highest)
    powers = [4**k + e for k in range(30) for e in (-1, 0, 1) if lowest <= 4**k + e <= highest]
    v = np.concatenate([v, [lowest, highest], powers]).astype(np.int64)
    plan = InverseSqrtPlan(len(v), lowest, highest, factor)
    outcome = run_with_ots(lambda party: plan.run(party, split(party, v, plan.input_bits)))
    assert outcome.cost == plan.cost() and outcome.cost.rounds == 10
    assert outcome.results[0].bits == plan.output_bits
    assert outcome.signed.min() > 0 and outcome.signed.max() < 2 ** (plan.output_bits - 2)
    exact = factor / np.sqrt(v.astype(np.float64))
    relative = outcome.signed * 2.0**-plan.fraction_bits / exact - 1
    assert np.abs(relative).max() < MAX_RELATIVE_ERROR


def test_refusals():
    with pytest.raises(ValueError, match="range"):
        InverseSqrtPlan(3, 0, 10, 1.0)
    with pytest.raises(ValueError, match="power of two"):
        InverseSqrtPlan(3, 1, 10, 2.5)
    plan = InverseSqrtPlan(3, 1, 2**20, 1.0)
    with pytest.raises(ValueError, match="the plan is for"):
        run_with_ots(lambda party: plan.run(party, split(party, np.ones(4, np.int64), plan.input_bits)))
