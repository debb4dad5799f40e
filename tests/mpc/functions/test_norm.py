"""LayerNorm and RMSNorm against float64 over scales, up to the ends of their ranges, at the declared error and cost."""

import numpy as np
import pytest

from aero.mpc.functions.norm import plan_norm
from aero.mpc.protocols.keys import exchange_keys
from mpc.ots import run_with_ots, split


def exact(x: np.ndarray, eps: float, centred: bool) -> tuple[np.ndarray, np.ndarray]:
    z = x - x.mean(axis=1, keepdims=True) if centred else x
    deviation = np.sqrt((z**2).mean(axis=1, keepdims=True) + eps)
    return z / deviation, deviation


def run_norm(plan, x: np.ndarray):
    outcome = run_with_ots(
        lambda party: plan.run(party, split(party, x, plan.input_bits, plan.input_fraction)),
        before=lambda party: exchange_keys(party, plan.client_keys, plan.server_keys),
    )
    assert outcome.cost == plan.cost()
    return outcome


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize(
    "rows, columns, formats, eps",
    [
        (128, 96, (25, 14, 25, 14), 1e-5),
        (1, 768, (25, 16, 25, 16), 1e-5),
        (7, 64, (17, 12, 20, 12), 1e-6),
        (3, 50, (30, 16, 30, 14), 1e-12),
        (8195, 3, (25, 14, 25, 14), 1e-5),  # in two blocks, the last with a row of zeros
    ],
)
def test_over_scales(rows, columns, formats, eps, centred):
    plan = plan_norm(rows, columns, *formats, eps=eps, centred=centred)
    rng = np.random.default_rng(columns)
    scales = 2.0 ** rng.uniform(-6, np.log2(plan.limit) - 3, (rows, 1))
    real = (rng.standard_normal((rows, columns)) + rng.normal(0, 1, (rows, 1))) * scales
    real = real.clip(-plan.limit, plan.limit * (1 - 2.0**-plan.value_bits))
    x = np.rint(real * 2.0**plan.input_fraction).astype(np.int64).clip(max=2 ** (plan.value_bits - 1) - 1)
    if rows > 5:
        x[0] = 0
        x[1] = 2 ** (plan.value_bits - 1) - 1
        x[2, ::2], x[2, 1::2] = x[1, 0], -x[1, 0] - 1
        x[3], x[3, columns // 2] = 0, x[1, 0]  # all of a row in one number: the largest result
    outcome = run_norm(plan, x)
    expected, deviation = exact(x / 2.0**plan.input_fraction, eps, centred)
    error = np.abs(outcome.real - expected)
    allowed = np.vectorize(plan.error)(np.abs(expected), deviation)
    assert (error <= allowed).all()


def test_typical_error():
    """Rows as in a model: deviation near 1, 16 fractional bits."""
    plan = plan_norm(16, 768, 24, 16, 24, 16, eps=1e-5, centred=True)
    x = np.rint(np.random.default_rng(0).standard_normal((16, 768)) * 2**16).astype(np.int64)
    outcome = run_norm(plan, x)
    expected, _ = exact(x / 2.0**16, 1e-5, True)
    assert np.abs(outcome.real - expected).max() < 5e-4


def test_bytes():
    plan = plan_norm(128, 768, 25, 14, 25, 14, eps=1e-5, centred=True)
    assert plan.cost().total_bytes < 9e6
    assert plan.cost().rounds == 17


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"eps": 0.0}, "eps"),
        ({"rows": 0}, "at least 1 row"),
        ({"input_bits": 60}, "fewer bits"),
        ({"input_bits": 50}, "smaller range"),
        ({"output_bits": 18}, "more bits"),
    ],
)
def test_plans_out_of_range_are_refused(settings, message):
    good = {
        "rows": 4,
        "columns": 768,
        "input_bits": 25,
        "input_fraction": 14,
        "output_bits": 25,
        "output_fraction": 14,
        "eps": 1e-5,
        "centred": True,
    }
    plan_norm(**good)
    with pytest.raises(ValueError, match=message):
        plan_norm(**(good | settings))
