"""Softmax: what a party holds between its steps does not depend on the scores; each check fails without its mask."""

import contextlib
import functools
import hashlib
from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pytest

from aero.kernels.slots import P50
from aero.mpc.dealer import InsecureDealtOts
from aero.mpc.functions import exp2, softmax
from aero.mpc.functions.score_rows import ScoreRows
from aero.mpc.functions.softmax import protocol, tournament
from aero.mpc.party import Party, Role
from aero.mpc.protocols.keys import exchange_keys
from aero.mpc.share import Share
from leakage.test_masks import assert_uniform, seeds
from leakage.test_ole import assert_field_uniform
from mpc.ots import split
from mpc.parties import run_both

SHAPE = (4, 64, 64)
ROWS = ScoreRows(4, ((64, 64),))
PLANS = {
    "maxima": softmax.plan_softmax(ROWS, 22, 14, 20, 18),
    "window": softmax.plan_softmax(ROWS, 22, 14, 20, 18, window=softmax.MaximaWindow((12.0, 0.0, 100.0, 12.0))),
}
PLAN = PLANS["maxima"]


def scores(kind: str) -> np.ndarray:
    low, high = -(2**21) + 2**12, 2**21 - 2**12
    if kind == "random":
        return np.random.default_rng(7).integers(low, high, SHAPE)
    if kind == "sharp":
        return np.where(np.arange(64) % 7 == 3, high, low) * np.ones(SHAPE, np.int64)
    return np.zeros(SHAPE, np.int64)


class View:
    """One run on fixed scores: frames, and what each role held, by the name of what made it."""

    def __init__(self, run: int, kind: str, mode: str = "maxima") -> None:
        plan = PLANS[mode]
        self.held: dict[tuple[Role, str], list[np.ndarray]] = {}

        def program(party: Party) -> Share:
            party.ots = InsecureDealtOts(party.role, seeds(run)[0])
            exchange_keys(party, plan.client_keys, plan.server_keys)
            x = split(party, scores(kind), plan.input_bits, 14, seed=seeds(run)[1][:16])
            return plan.run(party, x)

        names = ("multiplex", "below_tops", "powers", "log_sums")
        steps = [(protocol, name) for name in names]
        with self._kept((exp2, "from_field"), (tournament, "multiplex"), *steps):
            outcome = run_both(program, seeds(run))
        self.sent, self.results = outcome.sent, outcome.results

    @contextlib.contextmanager
    def _kept(self, *functions: tuple[ModuleType, str]) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            for module, name in functions:
                patch.setattr(module, name, self._keeping(name, getattr(module, name)))
            yield

    def _keeping(self, name: str, original):
        def kept(party: Party, *args, **kwargs):
            result = original(party, *args, **kwargs)
            last = result[-1] if name == "below_tops" else result
            values = last.values if isinstance(last, Share) else last[0]
            self.held.setdefault((party.role, name), []).append(values)
            return result

        return kept


KINDS = ("zero", "sharp")


@functools.lru_cache
def view(run: int, kind: str, mode: str = "maxima") -> View:
    return View(run, kind, mode)


def held(name: str, index: int, run: int = 0, mode: str = "maxima") -> Iterator[np.ndarray]:
    for kind in KINDS:
        for role in Role:
            yield view(run, kind, mode).held[role, name][index].reshape(-1)


def check_maxima() -> None:
    """The first level of the tournament: what is subtracted from one of two scores."""
    for values in held("multiplex", 0):
        assert_uniform(values[:3200] & np.uint64(2**15 - 1), 15)


def check_exponents() -> None:
    """Lifted exponents: the last multiplexer but one."""
    for values in held("multiplex", -2):
        assert_uniform(values, PLAN.power.ring_bits)


def check_powers() -> None:
    """Shares modulo p of powers. What hides them is tested, with mutations, in test_ole.py."""
    for values in held("powers", 1):
        assert_field_uniform(PLAN.slots.gather(values))


def check_logarithms() -> None:
    """log2 of the sums: 256 rows in each of 13 runs."""
    found: dict[Role, list[np.ndarray]] = {role: [] for role in Role}
    for run in range(13):
        for role in Role:
            found[role].append(view(run, "sharp").held[role, "log_sums"][0])
    for role in Role:
        assert_uniform(np.concatenate(found[role]), PLAN.power.ring_bits)


def check_conversions() -> None:
    for values in held("from_field", 1):
        assert_uniform(values, PLAN.output_bits)


def check_results() -> None:
    """Live entries of the result."""
    for kind in KINDS:
        for result in view(0, kind).results:
            assert_uniform(result.values.reshape(-1)[PLAN.rows.place], PLAN.output_bits)


def check_window_exponents() -> None:
    """Exponents held between both ends of a window, with scores above, inside and below it."""
    for values in held("below_tops", 0, mode="window"):
        assert_uniform(values, PLANS["window"].power.ring_bits)


def check_window_powers() -> None:
    for values in held("powers", 1, mode="window"):
        assert_field_uniform(PLANS["window"].slots.gather(values))


def check_window_results() -> None:
    for kind in KINDS:
        for result in view(0, kind, "window").results:
            assert_uniform(result.values.reshape(-1)[PLANS["window"].rows.place], PLANS["window"].output_bits)


CHECKS = [
    check_maxima,
    check_exponents,
    check_powers,
    check_logarithms,
    check_conversions,
    check_results,
    check_window_exponents,
    check_window_powers,
    check_window_results,
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_parts_are_independent_of_scores(check) -> None:
    check()


@contextlib.contextmanager
def no_pads() -> Iterator[None]:
    """Random OTs whose blocks are zero: nothing hides what is sent by them."""
    original = InsecureDealtOts._deal

    def zeros(self, sender, count):
        pairs, bits = original(self, sender, count)
        return np.zeros_like(pairs), bits

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(InsecureDealtOts, "_deal", zeros)
        yield


MUTATIONS = [
    (no_pads, check_maxima),
    (no_pads, check_exponents),
    (no_pads, check_conversions),
    (no_pads, check_results),
    (no_pads, check_window_exponents),
    (no_pads, check_window_results),
]


@pytest.mark.parametrize("mutation, check", MUTATIONS, ids=lambda f: f.__name__.removeprefix("check_"))
def test_a_missing_mask_is_noticed(mutation, check) -> None:
    view.cache_clear()
    with mutation(), pytest.raises(AssertionError):
        check()
    view.cache_clear()


@pytest.mark.parametrize("mode", PLANS)
def test_sizes_and_counts_depend_on_no_score(mode) -> None:
    kinds = ("zero", "sharp", "random")
    sizes = [[[len(frame) for frame in sent] for sent in view(0, kind, mode).sent] for kind in kinds]
    assert sizes[0] == sizes[1] == sizes[2]


@pytest.mark.parametrize("mode", PLANS)
def test_bytes_are_these(mode) -> None:
    """As tests/leakage/test_traces.py has them of other protocols."""
    found = [hashlib.sha256(b"".join(sent)).hexdigest() for sent in view(0, "random", mode).sent]
    assert found == HASHES[mode]
    assert P50 in PLANS[mode].client_keys


HASHES = {
    "maxima": [
        "4e292bced286f0db0b330d70192d64a9013e57aea2a303c0d154f6446860ff11",
        "1dcb0cc34019b08b0d0a92b04743820e1a2bddb63fbff052cdb906477d166d33",
    ],
    "window": [
        "3d1df6274cdd481ec854c03892cdaccf19ca99aa7525666aa057e9f177fa5dd8",
        "870c46dd6a995af17ca5b5073e6265b391233a6eea7b37b4647f7a981ebfbf38",
    ],
}
