"""Products of two shared values, number by number, against float64, up to the ends of their ranges, at the declared
error and cost."""

import numpy as np
import pytest

from aero.kernels.slots import SLOTS
from aero.mpc.functions.element_product import ElementProductPlan, plan_element_product
from aero.mpc.protocols.keys import exchange_keys
from mpc.ots import run_with_ots, split


def run_product(plan: ElementProductPlan, x: np.ndarray, y: np.ndarray):
    bits, fraction = plan.reads.bits, plan.input_fraction
    outcome = run_with_ots(
        lambda party: plan.run(party, *(split(party, z, bits, fraction, s) for z, s in ((x, b"x"), (y, b"y")))),
        # Both send, so that both begin in the same round.
        before=lambda party: exchange_keys(party, plan.client_keys, plan.client_keys),
    )
    assert outcome.cost == plan.cost()
    return outcome


@pytest.mark.parametrize(
    ("shape", "bits", "fraction", "output"),
    [
        ((7, 11), 22, 16, (22, 16)),
        ((1, SLOTS), 20, 14, (25, 14)),
        ((3, SLOTS), 25, 16, (30, 12)),  # several ciphertexts
        ((5, 7), 40, 16, (41, 16)),  # factors are cut
        ((4, 6), 30, 20, (48, 18)),
        ((2, 3), 12, 8, (30, 16)),  # all bits of the product
    ],
)
def test_over_scales(shape, bits, fraction, output):
    """Factors of all sizes whose product fits; zeros, and the largest of either sign."""
    plan = plan_element_product(shape, ((bits, fraction), (bits, fraction)), *output)
    rng, step = np.random.default_rng(bits), 2.0**-fraction
    largest, limit = 2.0 ** (bits - 1) * step - step, 2.0 ** (output[0] - 1 - output[1])
    x = rng.choice([-1, 1], shape) * np.minimum(2.0 ** rng.uniform(-fraction, bits - fraction, shape), largest)
    y = rng.choice([-1, 1], shape) * np.minimum(2.0 ** rng.uniform(-fraction, bits - fraction, shape), largest)
    x.flat[:4] = 0, largest, -largest, 1
    y = np.clip(y, -0.99 * limit / np.maximum(np.abs(x), step), 0.99 * limit / np.maximum(np.abs(x), step))
    x, y = (np.rint(z / step).astype(np.int64) for z in (x, y))
    outcome = run_product(plan, x, y)
    exact = (x * step) * (y * step)
    allowed = np.vectorize(plan.error)(np.abs(x) * step, np.abs(y) * step)
    assert (np.abs(outcome.real - exact) <= allowed).all()
    assert allowed.max() < np.abs(exact).max(), "a bound that could not fail would show nothing"


def test_typical_error():
    """Of a gated FFN's numbers, with 16 fractional bits: within a unit of the last place."""
    plan = plan_element_product((64, 96), ((23, 16), (22, 16)), 24, 16)
    x, y = (np.rint(np.random.default_rng(s).normal(0, 2, (64, 96)) * 2**16).astype(np.int64) for s in (0, 1))
    error = run_product(plan, x, y).real - (x / 2.0**16) * (y / 2.0**16)
    assert plan.error(100.0, 100.0) == 2.0**-16
    assert np.abs(error).max() < 2.0**-16 and abs(error.mean()) < 2.0**-20


def test_four_rounds_and_less_than_half_of_the_bytes_of_products_from_transfers():
    from aero.mpc.protocols.multiply import multiply_cost

    plan = plan_element_product((64, 1536), ((22, 16), (22, 16)), 22, 16)
    assert plan.cost().rounds == 4 == plan_element_product((1, 8), ((22, 16), (22, 16)), 22, 16).cost().rounds
    assert plan.cost().total_bytes < multiply_cost(64 * 1536, 38).total_bytes / 2


def test_what_it_cannot_do_is_refused():
    with pytest.raises(ValueError, match="as many fractional bits"):
        plan_element_product((2, 2), ((22, 16), (22, 14)), 22, 16)
    with pytest.raises(ValueError, match="no room in the field"):
        plan_element_product((2, 2), ((22, 16), (22, 16)), 60, 18)
    with pytest.raises(ValueError, match="do not fit a ring of 64"):
        plan_element_product((2, 2), ((64, 16), (22, 16)), 22, 16)
