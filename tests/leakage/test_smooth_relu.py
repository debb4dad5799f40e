"""GELU and SiLU: what a party holds between the steps depends on no number; each check fails without its mask."""

import contextlib
import functools
from collections.abc import Iterator

import numpy as np
import pytest

from aero.mpc.dealer import InsecureDealtOts
from aero.mpc.fixed_point import to_ring
from aero.mpc.functions import smooth_relu
from aero.mpc.functions.smooth_relu import FORMS, plan_smooth_relu
from aero.mpc.party import Party, Role
from aero.mpc.protocols.keys import exchange_keys
from aero.mpc.share import Share
from leakage.test_masks import assert_uniform, seeds
from leakage.test_nonlinear import assert_bits_uniform, no_masks_of_comparisons
from leakage.test_ole import assert_field_uniform, no_zero_encryption
from leakage.test_softmax import no_pads
from mpc.parties import run_both

COUNT, FRACTION = 4096, 12
PLANS = {form: plan_smooth_relu((COUNT,), 20, FRACTION, 25, 14, form=form) for form in FORMS}
KINDS = {"zero": 0.0, "middle": -1.0, "far": 30.0}
"""Every number of a run is the same, and the client's alone: only what the protocol draws makes parts uniform."""


class View:
    """One run: frames, results, and what each role held, by the name of what made it."""

    def __init__(self, form: str, x: np.ndarray) -> None:
        plan = PLANS[form]
        self.kept: dict[tuple[Role, str], list[np.ndarray]] = {}

        def program(party: Party) -> Share:
            party.ots = InsecureDealtOts(party.role, seeds(0)[0])
            exchange_keys(party, plan.client_keys, plan.server_keys)
            mine = np.rint(x * 2**FRACTION) if party.is_client else np.zeros(COUNT)
            return plan.run(party, Share(to_ring(mine.astype(np.int64), plan.input_bits), plan.input_bits, FRACTION))

        with pytest.MonkeyPatch.context() as patch:
            for name in ("negative", "to_field", "multiply_once", "together", "multiplex"):
                patch.setattr(smooth_relu, name, self._keeping(name, getattr(smooth_relu, name)))
            outcome = run_both(program, seeds(0))
        self.sent, self.results = outcome.sent, outcome.results

    def _keeping(self, name: str, original):
        def kept(party: Party, *args, **kwargs):
            made = original(party, *args, **kwargs)
            for part in made if name == "together" else [made]:
                values = part.values if isinstance(part, Share) else part
                self.kept.setdefault((party.role, name), []).append(values.reshape(-1))
            return made

        return kept


@functools.lru_cache
def view(form: str, kind: str) -> View:
    return View(form, np.full(COUNT, KINDS[kind]))


def kept(name: str, index: int) -> Iterator[tuple[str, np.ndarray]]:
    for form in FORMS:
        for kind in KINDS:
            for role in Role:
                yield form, view(form, kind).kept[role, name][index]


def check_signs() -> None:
    """Shares of all comparisons with thresholds."""
    for _, bits in kept("negative", 0):
        assert_bits_uniform(bits)


def check_arguments() -> None:
    """What is subtracted from x where it is negative, and both halves of t."""
    for index in range(3):
        for form, values in kept("together", index):
            assert_uniform(values, PLANS[form].of.t_bits if index else PLANS[form].output_bits)


def check_fields() -> None:
    for _, values in kept("to_field", 0):
        assert_field_uniform(values)


def check_squares() -> None:
    """What either party gets of t^2, then of (u + beta t)^2."""
    for index in range(2):
        for _, values in kept("multiply_once", index):
            assert_field_uniform(values)


def check_conversions() -> None:
    """u and w in the ring of the polynomials."""
    for index in (4, 5):
        for form, values in kept("together", index):
            assert_uniform(values, PLANS[form].work_bits)


def check_corrections() -> None:
    for form, values in kept("multiplex", 0):
        assert_uniform(values, PLANS[form].output_bits)


def check_results() -> None:
    for form in FORMS:
        for kind in KINDS:
            for result in view(form, kind).results:
                assert_uniform(result.values, PLANS[form].output_bits)


CHECKS = [
    check_signs,
    check_arguments,
    check_fields,
    check_squares,
    check_conversions,
    check_corrections,
    check_results,
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_parts_are_independent_of_numbers(check) -> None:
    check()


@contextlib.contextmanager
def no_masks_of_products() -> Iterator[None]:
    """Without pads the factors are the same everywhere, too."""
    with no_pads(), no_zero_encryption():
        yield


MUTATIONS = [
    (no_masks_of_comparisons, check_signs),
    (no_pads, check_arguments),
    (no_pads, check_fields),
    (no_pads, check_conversions),
    (no_pads, check_corrections),
    (no_masks_of_products, check_results),
    (no_masks_of_products, check_squares),
]


@pytest.mark.parametrize("mutation, check", MUTATIONS, ids=lambda f: f.__name__.removeprefix("check_"))
def test_a_missing_mask_is_noticed(mutation, check) -> None:
    view.cache_clear()
    with contextlib.ExitStack() as scope:
        scope.callback(view.cache_clear)
        scope.enter_context(mutation())
        with pytest.raises(AssertionError):
            check()


@pytest.mark.parametrize("form", FORMS)
def test_sizes_and_counts_depend_on_no_number(form) -> None:
    runs = [*(view(form, kind) for kind in KINDS), View(form, np.random.default_rng(7).uniform(-32, 32, COUNT))]
    sizes = [[[len(frame) for frame in sent] for sent in run.sent] for run in runs]
    assert all(size == sizes[0] for size in sizes)
