"""GELU over its whole range, both forms, at the declared error and cost."""

import numpy as np
import pytest
import torch

from aero.mpc.functions.gelu import fit, gelu, plan_gelu
from aero.mpc.protocols.keys import exchange_keys
from mpc.ots import run_with_ots, split


def exact(x: np.ndarray, form: str) -> np.ndarray:
    approximate = "tanh" if form == "tanh" else "none"
    return torch.nn.functional.gelu(torch.from_numpy(x), approximate=approximate).numpy()


@pytest.mark.parametrize("form", ["tanh", "erf"])
@pytest.mark.parametrize(
    "formats, rounds", [((19, 14, 25, 14), 10), ((20, 14, 25, 14), 10), ((25, 16, 30, 16), 12), ((12, 8, 12, 8), 10)]
)
def test_over_the_whole_range(formats, rounds, form):
    plan = plan_gelu((90, 101), *formats, form=form)
    bits, fraction = formats[:2]
    limit = min(2.0 ** (bits - 1 - fraction), 2.0 ** (formats[2] - 1 - formats[3]) - 1)
    real = np.concatenate([np.linspace(-5, 5, 60 * 101), np.linspace(-limit, limit, 30 * 101)]).reshape(plan.shape)
    x = np.rint(real * 2**fraction).astype(np.int64).clip(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    outcome = run_with_ots(
        lambda party: gelu(party, plan, split(party, x, plan.input_bits, fraction)),
        before=lambda party: exchange_keys(party, plan.client_keys, plan.server_keys),
    )
    assert outcome.cost == plan.cost() and outcome.cost.rounds == rounds
    error = np.abs(outcome.real - exact(x / 2.0**fraction, form))
    assert error.max() <= plan.max_error


def test_the_stated_error():
    for form in ("tanh", "erf"):
        assert plan_gelu((1,), 20, 14, 25, 14, form=form).max_error < 1.9e-3
        assert plan_gelu((1,), 19, 14, 25, 14, form=form).max_error < 1.6e-3


@pytest.mark.parametrize("form", ["tanh", "erf"])
def test_the_fit_is_as_good_as_it_says(form):
    found = fit(form, 1 / 16)
    t = np.linspace(0, 8, 4001)
    basis = np.stack([np.ones_like(t), t, t**2, (t**2 + 2.5 * t) ** 2], axis=1)
    approximated = np.where(t < 1.5, basis @ found.inner, basis @ found.outer)
    approximated = np.where(t < 3.5, approximated, found.inner[0])
    assert np.abs(t - approximated - exact(t, form)).max() < found.error * 1.001 < 1e-3


def test_bytes():
    for bits in (19, 20, 22):  # |x| below 16, 32, 128
        plan = plan_gelu((128, 3072), bits, 14, 25, 14)
        assert plan.cost().total_bytes / plan.count < 170


@pytest.mark.parametrize(
    "formats, form, message",
    [
        ((25, 14, 25, 14), "relu", "form"),
        ((25, 2, 25, 14), "tanh", "fractional bits"),
        ((25, 14, 25, 33), "tanh", "cannot give"),
        ((25, 14, 60, 14), "tanh", "too wide"),
    ],
)
def test_refusals(formats, form, message):
    with pytest.raises(ValueError, match=message):
        plan_gelu((3,), *formats, form=form)
