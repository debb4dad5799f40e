"""Each form over its whole range, at the declared error and cost."""

from functools import partial

import numpy as np
import pytest
import torch

from aero.kernels.slots import P50
from aero.mpc.functions.smooth_relu import FORMS, MIN_SIGN_FRACTION, fit, plan_smooth_relu
from aero.mpc.protocols.keys import exchange_keys
from mpc.ots import run_with_ots, split


def exact(x: np.ndarray, form: str) -> np.ndarray:
    of = {
        "tanh": partial(torch.nn.functional.gelu, approximate="tanh"),
        "erf": torch.nn.functional.gelu,
        "silu": torch.nn.functional.silu,
    }
    return of[form](torch.from_numpy(x)).numpy()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "formats, rounds", [((19, 14, 25, 14), 10), ((20, 14, 25, 14), 10), ((25, 16, 30, 16), 12), ((12, 8, 12, 8), 10)]
)
def test_over_the_whole_range(formats, rounds, form):
    plan = plan_smooth_relu((90, 101), *formats, form=form)
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
    assert plan_smooth_relu((1,), 20, 14, 25, 14, form="silu").max_error < 3.8e-3
    assert plan_smooth_relu((1,), 19, 14, 25, 14, form="silu").max_error < 3.4e-3
    for form in ("tanh", "erf"):
        assert plan_smooth_relu((1,), 20, 14, 25, 14, form=form).max_error < 1.9e-3
        assert plan_smooth_relu((1,), 19, 14, 25, 14, form=form).max_error < 1.6e-3


@pytest.mark.parametrize(("form", "bound"), [("tanh", 1e-3), ("erf", 1e-3), ("silu", 2.25e-3)])
def test_the_fit_is_as_good_as_it_says(form, bound):
    found, of = fit(form, 3), FORMS[form]
    t = np.linspace(0, of.end + 4.5, 4001)
    basis = np.stack([np.ones_like(t), t, t**2, (t**2 + of.beta * t) ** 2], axis=1)
    approximated = np.where(t < of.knot, basis @ found.inner, basis @ found.outer)
    approximated = np.where(t < of.end, approximated, found.inner[0])
    assert np.abs(t - approximated - exact(t, form)).max() < found.error * 1.001 < bound


def minimax(basis: np.ndarray, target: np.ndarray) -> float:
    """The smallest largest error over the points: least squares, reweighted by the errors (Lawson 1961)."""
    weight, best = np.ones(len(target)), np.inf
    for _ in range(100):
        root = np.sqrt(weight)
        coefficients = np.linalg.lstsq(basis * root[:, None], target * root, rcond=None)[0]
        errors = np.abs(basis @ coefficients - target)
        best = min(best, errors.max())
        weight *= errors / (weight * errors).sum()
    return best


@pytest.mark.parametrize("sign_fraction", [2, 3, 4])
@pytest.mark.parametrize("form", FORMS)
def test_the_coefficients_are_those_of_the_best_polynomials(form, sign_fraction):
    found, of, slack = fit(form, sign_fraction), FORMS[form], 2.0 ** -(sign_fraction + 1)
    for c, start, stop in ((found.inner, -slack, of.knot + slack), (found.outer, of.knot - slack, of.end + slack)):
        t = np.linspace(start, stop, 400)
        target = np.maximum(t, 0) * (start > 0) + t * (start < 0) - of.reference(t)
        rounding = of.basis(t).max(axis=0) @ 2.0 ** -(of.units + 1.0)  # half a unit of each coefficient
        assert np.abs(of.basis(t) @ c - target).max() < minimax(of.basis(t), target) + rounding


@pytest.mark.parametrize("form", FORMS)
def test_the_largest_square_fits_the_field(form):
    """Of numbers up to half a coarse step beyond the end, and a step of t's own."""
    of = FORMS[form]
    t = of.end + 2.0 ** -(MIN_SIGN_FRACTION + 1) + 2.0**-of.t_fraction
    assert (t**2 + of.beta * t) ** 2 * 2.0 ** (4 * of.t_fraction) < P50.p / 2
    assert t < 2.0 ** (of.t_bits - 2 - of.t_fraction)  # a quarter of the ring, from which it is extended


def test_bytes():
    for bits in (19, 20, 22):  # |x| below 16, 32, 128
        plan = plan_smooth_relu((128, 3072), bits, 14, 25, 14, form="tanh")
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
        plan_smooth_relu((3,), *formats, form=form)
