"""Powers with shared exponents, on real shares: exact products of mantissas over the whole range, and at its ends."""

import numpy as np
import pytest

from aero.kernels.slots import P37, P50, Field
from aero.mpc.functions.exp2 import Exponential
from aero.mpc.party import Role
from mpc.ots import split
from mpc.parties import run_both

CASES = [
    Exponential(P50, 14, (12, 12)),
    Exponential(P50, 2, (13, 10)),
    Exponential(P37, 12, (9, 9)),
    Exponential(P50, 0, (1, 1)),
]


def products(power: Exponential, exponents: np.ndarray, seed: bytes) -> np.ndarray:
    """u_0 u_1 modulo p, for exponents in steps."""
    parts = run_both(
        lambda party: power.power(party, split(party, exponents, power.ring_bits, seed=seed).values)
    ).results
    return np.array([int(a) * int(b) % power.field.p for a, b in zip(*parts, strict=True)], dtype=object)


@pytest.mark.parametrize("power", CASES)
def test_powers_over_the_range_and_at_its_ends(power):
    steps = 2**power.fraction_bits
    last = int(np.floor(power.largest() * steps))
    exponents = np.concatenate(
        [np.full(400, steps), np.full(400, last), np.linspace(steps, last, 4000).astype(np.int64)]
    )
    for seed in (b"first", b"second"):
        found = products(power, exponents, seed)
        exact = 2.0 ** (exponents / steps + power.scale_bits)
        assert np.abs(found.astype(np.float64) / exact - 1).max() <= power.error
        assert max(found) < power.field.p / 2


@pytest.mark.parametrize("power", [CASES[0], CASES[2]])
def test_below_the_range_is_not_a_power(power):
    """Half below 1, the carry of the two fractions makes whole exponents negative: arbitrary elements come out."""
    steps = 2**power.fraction_bits
    below = np.full(4000, steps // 2 - 1)
    found = products(power, below, b"below")
    wrong = np.abs(found.astype(np.float64) / 2.0 ** (below[0] / steps + power.scale_bits) - 1) > 1
    assert wrong.mean() > 0.1


def test_what_it_refuses():
    with pytest.raises(ValueError, match="mantissas"):
        Exponential(P50, 14, (17, 12))
    with pytest.raises(ValueError, match="fractional bits"):
        Exponential(P50, 33, (12, 12))
    with pytest.raises(ValueError, match="order"):
        Exponential(Field(786433), 14, (2, 2))


def test_roles_may_have_mantissas_of_their_own():
    power = Exponential(P50, 4, (12, 3))
    one = np.zeros(1, np.uint64)
    parts = run_both(lambda party: power.power(party, one)).results
    assert [int(part[0]) for part in parts] == [2**12, 2**3]
    assert Role.CLIENT == 0
