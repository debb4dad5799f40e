"""Powers with shared exponents, on real shares: exact products of mantissas over the whole range, and at its ends."""

import numpy as np
import pytest

from aero.kernels.slots import P37, P50, Field
from aero.mpc.functions.exp2 import Exponential
from aero.mpc.party import Role
from aero.mpc.protocols.extend import from_field_cost
from mpc.ots import run_with_ots, split
from mpc.parties import run_both

CASES = [
    Exponential((P50,), 14, (12, 12)),
    Exponential((P50,), 2, (13, 10)),
    Exponential((P37,), 12, (9, 9)),
    Exponential((P50,), 0, (1, 1)),
    Exponential((P50, P37), 14, (14, 14)),
]


def products(power: Exponential, exponents: np.ndarray, seed: bytes) -> np.ndarray:
    """u_0 u_1 modulo p, for exponents in steps."""
    client, server = run_both(
        lambda party: power.power(party, split(party, exponents, power.ring_bits, seed=seed).values)
    ).results
    residues = [u.astype(object) * v.astype(object) % f.p for u, v, f in zip(client, server, power.fields, strict=True)]
    return combined(power, residues)


def combined(power: Exponential, residues: list[np.ndarray]) -> np.ndarray:
    """The number below p with these residues."""
    total, p = np.zeros(residues[0].shape, object), power.modulus
    for residue, field in zip(residues, power.fields, strict=True):
        others = p // field.p
        total = total + residue.astype(object) * (others * pow(others, -1, field.p))
    return total % p


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
        assert max(found) < power.modulus / 2


@pytest.mark.parametrize("power", [CASES[0], CASES[2]])
def test_below_the_range_is_not_a_power(power):
    """Half below 1, the carry of the two fractions makes whole exponents negative: arbitrary elements come out."""
    steps = 2**power.fraction_bits
    below = np.full(4000, steps // 2 - 1)
    found = products(power, below, b"below")
    wrong = np.abs(found.astype(np.float64) / 2.0 ** (below[0] / steps + power.scale_bits) - 1) > 1
    assert wrong.mean() > 0.1


@pytest.mark.parametrize("power, dropped", [(CASES[0], 25), (CASES[-1], 40), (CASES[-1], 68)])
def test_from_residues_to_a_ring(power, dropped):
    """Shares of numbers up to half the modulus, of zero and of the largest."""
    rng, p, n = np.random.default_rng(0), power.modulus, 3000
    largest = 2.0 ** (power.largest() + power.scale_bits)
    v = np.array([int(largest * x) for x in np.concatenate([rng.random(n - 20), np.zeros(10), np.ones(10)])], object)
    masks = [rng.integers(0, f.p, n, np.uint64) for f in power.fields]

    def program(party):
        shares = [
            mask if party.role is Role.SERVER else ((v - mask.astype(object)) % f.p).astype(np.uint64)
            for mask, f in zip(masks, power.fields, strict=True)
        ]
        return power.to_ring(party, shares, bits=62, dropped=dropped, fraction_bits=3)

    outcome = run_with_ots(program)
    error = outcome.signed - (v / 2**dropped).astype(np.float64)
    assert np.abs(error).max() <= 1 + 2.0**-7
    assert abs(error.mean()) < 0.05
    assert outcome.cost == from_field_cost(n, 62)
    assert p // 2 > v.max() > p // 8


def test_what_it_refuses():
    with pytest.raises(ValueError, match="mantissas"):
        Exponential((P50,), 14, (17, 12))
    with pytest.raises(ValueError, match="fractional bits"):
        Exponential((P50,), 33, (12, 12))
    with pytest.raises(ValueError, match="two different"):
        Exponential((P50, P50), 14, (2, 2))
    with pytest.raises(ValueError, match="order"):
        Exponential((Field(786433),), 14, (2, 2))


def test_roles_may_have_mantissas_of_their_own():
    power = Exponential((P50,), 4, (12, 3))
    one = np.zeros(1, np.uint64)
    parts = run_both(lambda party: power.power(party, one)).results
    assert [int(part[0][0]) for part in parts] == [2**12, 2**3]
