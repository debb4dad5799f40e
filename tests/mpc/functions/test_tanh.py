"""tanh over its whole range, at the declared error and cost."""

import numpy as np
import pytest

from aero.mpc.functions.tanh import plan_tanh
from aero.mpc.protocols.keys import exchange_keys
from mpc.ots import run_with_ots, split


@pytest.mark.parametrize("formats", [(20, 14, 18, 16), (25, 16, 18, 16), (26, 16, 22, 14)])
def test_over_the_whole_range(formats):
    plan = plan_tanh((30, 67), *formats)
    fraction = formats[1]
    limit = plan.pairs.largest_score
    assert limit >= 2.0 ** (formats[0] - 1 - fraction) - 0.5
    real = np.concatenate([np.linspace(-5, 5, 20 * 67), np.linspace(-limit, limit, 10 * 67)]).reshape(plan.shape)
    x = np.trunc(real * 2**fraction).astype(np.int64)
    outcome = run_with_ots(
        lambda party: plan.run(party, split(party, x, plan.reads.bits, fraction)),
        before=lambda party: exchange_keys(party, plan.client_keys, plan.server_keys),
    )
    assert outcome.cost == plan.cost()
    assert all((share.bits, share.fraction_bits) == formats[2:] for share in outcome.results)
    assert np.abs(outcome.real - np.tanh(x / 2.0**fraction)).max() <= plan.max_error < 9e-4


def test_what_it_reads_is_checked():
    plan = plan_tanh((2, 3), 20, 14, 18, 16)
    with pytest.raises(ValueError, match="the plan is for"):
        run_with_ots(lambda party: plan.run(party, split(party, np.zeros((3, 2), np.int64), plan.reads.bits, 14)))
