"""Comparisons against NumPy, over whole rings where they are small, at the declared cost."""

import numpy as np
import pytest

from aero.mpc.party import Role
from aero.mpc.protocols import compare
from aero.mpc.protocols.compare import less_than, less_than_cost, negative, negative_cost
from mpc.ots import run_with_ots, split


def compared(a: np.ndarray, b: np.ndarray, bits: int):
    outcome = run_with_ots(lambda party: less_than(party, a if party.role is Role.CLIENT else b, bits))
    assert outcome.cost == less_than_cost(a.size, bits)
    return outcome


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 6])
def test_all_pairs_of_small_numbers(bits):
    a, b = (x.reshape(-1).astype(np.uint64) for x in np.mgrid[0 : 2**bits, 0 : 2**bits])
    np.testing.assert_array_equal(compared(a, b, bits).xor, a < b)


@pytest.mark.parametrize(
    "bits, rounds", [(7, 3), (8, 3), (9, 4), (12, 4), (16, 4), (17, 5), (24, 5), (32, 5), (37, 6), (63, 6), (64, 6)]
)
def test_large_numbers(bits, rounds):
    rng = np.random.default_rng(bits)
    top = 2**bits - 1
    a = rng.integers(0, top, 1200, np.uint64, endpoint=True)
    b = rng.integers(0, top, 1200, np.uint64, endpoint=True)
    b[:200] = a[:200]
    near = np.uint64(1) << rng.integers(0, bits, 600).astype(np.uint64)
    b[200:800] = a[200:800] ^ near  # a difference in one bit, in every digit
    a[800:804], b[800:804] = [0, top, 0, top], [top, 0, 0, top]
    outcome = compared(a.reshape(30, 40), b.reshape(30, 40), bits)
    np.testing.assert_array_equal(outcome.xor.reshape(-1), a < b)
    assert outcome.cost.rounds == rounds


def test_many_numbers_go_in_parts_and_in_the_same_rounds(monkeypatch):
    """The client asks for all parts before it reads an answer."""
    rng = np.random.default_rng(6)
    a, b = rng.integers(0, 2**9, (2, 250), np.uint64)
    whole = less_than_cost(a.size, 9)
    monkeypatch.setattr(compare, "PART", 100)
    outcome = compared(a, b, 9)
    np.testing.assert_array_equal(outcome.xor, a < b)
    assert outcome.cost.rounds == whole.rounds and outcome.cost.messages == whole.messages + 4


def test_bytes_of_a_comparison():
    cost = less_than_cost(8000, 16)
    leaves, nodes = 4 * 4 + 3 * 32 + 16, 2 * (2 + 2 + 3)
    assert abs(cost.total_bytes - 1000 * (leaves + nodes)) < 300  # headers
    assert (cost.ots_from_client, cost.ots_from_server) == (3 * 8000, 19 * 8000)


@pytest.mark.parametrize("bits", [1, 2, 3, 5, 9])
def test_signs_of_a_whole_ring(bits):
    x = np.repeat(np.arange(-(2 ** (bits - 1)), 2 ** (bits - 1)), 8)
    outcome = run_with_ots(lambda party: negative(party, split(party, x, bits)))
    np.testing.assert_array_equal(outcome.xor, x < 0)
    assert outcome.cost == negative_cost(x.size, bits) or bits == 1


@pytest.mark.parametrize("bits", [17, 25, 37, 64])
def test_signs(bits):
    rng = np.random.default_rng(bits)
    x = np.concatenate([rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), 2000), rng.integers(-3, 3, 500)])
    x = np.append(x, [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1, 0, -1])
    outcome = run_with_ots(lambda party: negative(party, split(party, x, bits)))
    np.testing.assert_array_equal(outcome.xor, x < 0)
    assert outcome.cost == negative_cost(x.size, bits)


def test_a_number_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="fit"):
        run_with_ots(lambda party: less_than(party, np.array([16], np.uint64), 4))
