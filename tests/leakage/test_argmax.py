"""The largest of shared numbers: what a party holds, and what it gets, does not depend on them before the opening; each
check fails without its mask."""

import functools

import numpy as np
import pytest

from aero.mpc.dealer import InsecureDealtOts
from aero.mpc.functions import argmax
from aero.mpc.party import Party, Role
from leakage.test_masks import assert_uniform, seeds
from leakage.test_softmax import no_pads
from mpc.ots import split
from mpc.parties import run_both

PLAN = argmax.TopKPlan(8192, 1, 20)
RUNS = 13
SMALL = argmax.TopKPlan(256, 256, 20)


def numbers(kind: str, count: int) -> np.ndarray:
    """The largest first, last, or nowhere."""
    ends = 2**18 - 1
    if kind == "equal":
        return np.full(count, 5)
    return np.linspace(*((ends, -ends) if kind == "falling" else (-ends, ends)), count).astype(np.int64)


class View:
    """One run on fixed numbers: what each role held of every level's choices, and its result."""

    def __init__(self, plan: argmax.TopKPlan, run: int, kind: str) -> None:
        self.held: dict[Role, list[list[np.ndarray]]] = {role: [] for role in Role}

        def program(party: Party):
            party.ots = InsecureDealtOts(party.role, seeds(run)[0])
            return plan.run(party, split(party, numbers(kind, plan.count), plan.bits, seed=seeds(run)[1][:16]))

        original = argmax.together

        def kept(party: Party, *protocols):
            results = original(party, *protocols)
            self.held[party.role].append([result.values.reshape(-1) for result in results])
            return results

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(argmax, "together", kept)
            self.results = run_both(program, seeds(run)).results


@functools.lru_cache
def view(kind: str) -> View:
    return View(PLAN, 0, kind)


KINDS = ("rising", "falling", "equal")


def check_numbers() -> None:
    for kind in KINDS:
        for role in Role:
            assert_uniform(view(kind).held[role][0][0], PLAN.bits)


def check_places() -> None:
    for kind in KINDS:
        for role in Role:
            assert_uniform(view(kind).held[role][0][1], PLAN.place_bits)


def check_results() -> None:
    """All that is left at the end, before anything is opened: 256 numbers and places in each of many runs."""
    views = [View(SMALL, run, "rising") for run in range(RUNS)]
    for role in Role:
        for index, bits in ((0, SMALL.bits), (1, SMALL.place_bits)):
            assert_uniform(np.concatenate([v.results[role][index].values for v in views]), bits)


CHECKS = [check_numbers, check_places, check_results]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_parts_are_independent_of_the_numbers(check) -> None:
    check()


@pytest.mark.parametrize(
    "check", [check_numbers, check_places], ids=lambda check: check.__name__.removeprefix("check_")
)
def test_a_missing_mask_is_noticed(check) -> None:
    view.cache_clear()
    with no_pads(), pytest.raises(AssertionError):
        check()
    view.cache_clear()


def test_nothing_is_opened_on_the_way() -> None:
    def program(party: Party):
        party.ots = InsecureDealtOts(party.role, seeds(0)[0])
        SMALL.run(party, split(party, numbers("rising", 256), SMALL.bits))
        return party.openings

    assert run_both(program).results == [[], []]
