"""ReLU over its whole range, at the declared error and cost."""

import numpy as np
import pytest

from aero.mpc.fixed_point import from_ring, reduce_ring
from aero.mpc.functions.relu import plan_relu
from aero.mpc.ot.supply import set_up_ots
from mpc.ots import run_with_ots, split
from mpc.parties import run_both


@pytest.mark.parametrize(
    "formats, rounds",
    [((25, 14, 25, 14), 6), ((25, 16, 20, 10), 6), ((17, 12, 17, 12), 5), ((9, 4, 30, 12), 4), ((40, 14, 24, 16), 7)],
)
def test_over_the_whole_range(formats, rounds):
    bits, fraction, out_bits, out_fraction = formats
    rng = np.random.default_rng(bits)
    plan = plan_relu((60, 101), *formats)
    limit = 2 ** (min(bits - fraction, out_bits - out_fraction) - 1 + fraction)
    top = limit - 2 ** (fraction - min(plan.sign_fraction, out_fraction, fraction))
    x = rng.integers(-limit, top, plan.shape)
    x[0] = np.arange(-50, 51)
    x[1, :2] = -limit, top - 1
    x[2:9] = rng.integers(-(2 ** min(fraction + 1, bits - 1)), 2 ** min(fraction + 1, bits - 1), (7, 101))
    outcome = run_with_ots(lambda party: plan.run(party, split(party, x, plan.input_bits, fraction)))
    real = x / 2.0**fraction
    assert outcome.results[0].bits == out_bits and outcome.results[0].fraction_bits == out_fraction
    error = np.abs(outcome.real - np.maximum(real, 0))
    assert error.max() <= plan.max_error
    assert (outcome.real[real < -(2.0**-plan.sign_fraction)] == 0).all()
    assert outcome.cost == plan.cost() and outcome.cost.rounds == rounds


def test_with_real_oblivious_transfers():
    x = np.random.default_rng(1).integers(-(2**18), 2**18, (8, 50))
    plan = plan_relu(x.shape, 20, 14, 25, 14)

    def program(party):
        set_up_ots(party)
        cost = plan.cost()
        needed = cost.ots_from_client, cost.ots_from_server
        party.ots.reserve(*(needed if party.is_client else needed[::-1]))
        return plan.run(party, split(party, x, plan.input_bits, 14))

    client, server = run_both(program).results
    found = from_ring(reduce_ring(client.values + server.values, 25), 25) / 2.0**14
    assert np.abs(found - np.maximum(x / 2.0**14, 0)).max() <= plan.max_error


def test_exact_where_nothing_is_dropped():
    x = np.arange(-(2**12), 2**12)
    plan = plan_relu(x.shape, 13, 5, 13, 5)
    outcome = run_with_ots(lambda party: plan.run(party, split(party, x, 13, 5)))
    np.testing.assert_array_equal(outcome.signed, np.maximum(x, 0))
    assert plan.max_error == 0


def test_fewer_bits_of_the_sign_cost_less():
    coarse, fine = (plan_relu((128, 3072), 25, 14, 25, 14, sign_fraction=bits) for bits in (6, 14))
    leaves = 2 * 36 / 8 * 128 * 3072  # two digits more
    assert fine.cost().total_bytes - coarse.cost().total_bytes > leaves
    assert (coarse.cost().rounds, fine.cost().rounds) == (5, 6)
    assert coarse.max_error == 2.0**-6 and fine.max_error == 0


def test_refusals():
    plan = plan_relu((3,), 25, 14, 25, 14)
    with pytest.raises(ValueError, match="the plan is for"):
        run_with_ots(lambda party: plan.run(party, split(party, np.zeros(4, np.int64), 25, 14)))
    with pytest.raises(ValueError, match="sign"):
        plan_relu((3,), 25, 14, 25, 14, sign_fraction=15)
