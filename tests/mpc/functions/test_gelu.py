"""GELU over its whole range, both forms, at the declared error and cost."""

import numpy as np
import pytest
import torch

from aero.mpc.functions.gelu import END, KNOT, basis, fit, gelu_reference, plan_gelu
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
        lambda party: plan.run(party, split(party, x, plan.input_bits, fraction)),
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
    found = fit(form, 3)
    t = np.linspace(0, 8, 4001)
    basis = np.stack([np.ones_like(t), t, t**2, (t**2 + 2.5 * t) ** 2], axis=1)
    approximated = np.where(t < 1.5, basis @ found.inner, basis @ found.outer)
    approximated = np.where(t < 3.5, approximated, found.inner[0])
    assert np.abs(t - approximated - exact(t, form)).max() < found.error * 1.001 < 1e-3


def minimax(t: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The smallest largest error over the points: least squares, reweighted by the errors (Lawson 1961)."""
    weight, best = np.ones(len(t)), np.inf
    for _ in range(100):
        root = np.sqrt(weight)
        coefficients = np.linalg.lstsq(basis(t) * root[:, None], target * root, rcond=None)[0]
        errors = np.abs(basis(t) @ coefficients - target)
        best = min(best, errors.max())
        weight *= errors / (weight * errors).sum()
    return best


@pytest.mark.parametrize("sign_fraction", [2, 3, 4])
@pytest.mark.parametrize("form", ["tanh", "erf"])
def test_the_coefficients_are_those_of_the_best_polynomials(form, sign_fraction):
    found, slack = fit(form, sign_fraction), 2.0 ** -(sign_fraction + 1)
    for c, start, stop in ((found.inner, -slack, KNOT + slack), (found.outer, KNOT - slack, END + slack)):
        t = np.linspace(start, stop, 400)
        target = np.maximum(t, 0) * (start > 0) + t * (start < 0) - gelu_reference(t, form)
        rounding = basis(t).max(axis=0) @ 2.0 ** -np.array([33, 23, 19, 25])  # half a unit of each coefficient
        assert np.abs(basis(t) @ c - target).max() < minimax(t, target) + rounding


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
