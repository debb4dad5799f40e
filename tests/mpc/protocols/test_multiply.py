"""Products and tables for few numbers: exact, at the declared cost."""

import numpy as np
import pytest

from aero.mpc.fixed_point import from_ring
from aero.mpc.protocols.multiply import look_up, look_up_cost, multiply, multiply_cost, square, square_cost
from mpc.ots import run_with_ots, split


@pytest.mark.parametrize("bits", [1, 2, 13, 24, 40, 64])
def test_products(bits):
    rng = np.random.default_rng(bits)
    x, y = (rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (9, 23)) for _ in range(2))
    outcome = run_with_ots(
        lambda party: multiply(party, split(party, x, bits, 1, b"x"), split(party, y, bits, 2, b"y"), bits)
    )
    np.testing.assert_array_equal(outcome.signed, from_ring((x * y).view(np.uint64) & np.uint64(2**bits - 1), bits))
    assert outcome.results[0].fraction_bits == 3
    assert outcome.cost == multiply_cost(x.size, bits) and outcome.cost.rounds == 1


@pytest.mark.parametrize("bits", [2, 13, 40, 64])
def test_squares(bits):
    x = np.random.default_rng(bits).integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (9, 23))
    outcome = run_with_ots(lambda party: square(party, split(party, x, bits, 3), bits))
    np.testing.assert_array_equal(outcome.signed, from_ring((x * x).view(np.uint64) & np.uint64(2**bits - 1), bits))
    assert outcome.results[0].fraction_bits == 6
    assert outcome.cost == square_cost(x.size, bits) and outcome.cost.rounds == 1
    assert outcome.cost.total_bytes < 0.6 * multiply_cost(x.size, bits).total_bytes or bits == 2


def test_factors_of_larger_rings():
    x, y = np.arange(-50, 50), np.arange(100) * 300
    outcome = run_with_ots(
        lambda party: multiply(party, split(party, x, 33, 0, b"x"), split(party, y, 40, 0, b"y"), 25)
    )
    np.testing.assert_array_equal(outcome.signed, x * y)


@pytest.mark.parametrize("k", [1, 3, 8])
@pytest.mark.parametrize("bits", [(5,), (64, 13), (20, 1, 33)])
def test_tables(k, bits):
    rng = np.random.default_rng(k)
    table = np.stack([rng.integers(0, 2**b - 1, 2**k, np.uint64, endpoint=True) for b in bits], axis=1)
    index = rng.integers(0, 2**k, (8, 40))
    outcome = run_with_ots(lambda party: look_up(party, split(party, index, k), table, bits))
    for w, (client, server) in enumerate(zip(*outcome.results, strict=True)):
        assert client.bits == server.bits == bits[w]
        found = client.of(client.values + server.values).values
        np.testing.assert_array_equal(found, table[index, w])
    assert outcome.cost == look_up_cost(index.size, k, bits) and outcome.cost.rounds == 2


@pytest.mark.parametrize(
    "k, table, bits, message",
    [
        (9, np.zeros((512, 1), np.uint64), (8,), "1 to 8 bits"),
        (3, np.zeros((7, 1), np.uint64), (8,), "of shape"),
        (3, np.full((8, 1), 256, np.uint64), (8,), "does not fit"),
    ],
)
def test_tables_that_do_not_fit_are_refused(k, table, bits, message):
    with pytest.raises(ValueError, match=message):
        run_with_ots(lambda party: look_up(party, split(party, np.zeros(3, np.int64), k), table, bits))
