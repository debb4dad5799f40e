"""Functions on rows against float64 on real shares, at the declared cost."""

import numpy as np
import pytest

from aero.mpc.functions.rows import LOG2_SCALE, Log2Plan
from mpc.ots import run_with_ots, split


@pytest.mark.parametrize("low, high", [(-2, 7), (-2, 0), (-2, 10), (-6, 4), (-26, 7)])
def test_log2_over_its_range(low, high):
    count, fraction = 3000, 20 - min(low + 2, 0)
    plan = Log2Plan(count, low, high, fraction, 27, 14)
    x = 2.0 ** np.linspace(low, high, count)
    x[:40] = 2.0 ** np.clip(np.repeat(np.arange(20) - 10.0, 2) + np.tile([0, 1e-3], 20), low, high)
    held = np.rint(x * LOG2_SCALE * 2.0**fraction).astype(np.int64)
    outcome = run_with_ots(lambda party: plan.run(party, split(party, held, plan.input_bits, fraction)))
    exact = np.log2(held / 2.0**fraction / LOG2_SCALE)
    error = np.abs(outcome.real - exact)
    assert error.max() <= plan.max_error
    assert error.max() < 2.5e-4
    assert outcome.cost == plan.cost()


def test_log2_below_its_range_is_too_large_and_bounded():
    """Down to nothing at all, and across the values at which the polynomial's result leaves its ring."""
    count, fraction = 4000, 47
    plan = Log2Plan(count, -26, 7, fraction, 27, 14)
    held = np.rint(2.0 ** (fraction + np.linspace(-47, -26, count))).astype(np.int64)
    held[:50] = 0
    outcome = run_with_ots(lambda party: plan.run(party, split(party, held, plan.input_bits, fraction)))
    exact = np.log2(np.maximum(held, 2.0**-20) / 2.0**fraction / LOG2_SCALE)
    assert (outcome.real >= exact - plan.max_error).all()
    assert outcome.real.max() <= plan.low + 3.5


def test_plans_that_cannot_be():
    with pytest.raises(ValueError, match="bits fewer"):
        Log2Plan(1, -2, 12, 51, 27, 14)
    with pytest.raises(ValueError, match="range"):
        Log2Plan(1, 3, 4, 20, 27, 14)
    with pytest.raises(ValueError, match="does not fit"):
        Log2Plan(1, -2, 4, 20, 15, 14)
