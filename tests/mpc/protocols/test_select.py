"""AND, OR, bits as numbers, and multiplexers against what they compute, at the declared cost."""

import numpy as np
import pytest

from aero.mpc.ot.transfer import products_cost, together
from aero.mpc.protocols.select import (
    and_bits,
    arithmetic,
    arithmetic_shapes,
    conjunction_shapes,
    multiplex,
    multiplexing,
    multiplexing_shapes,
    not_bits,
)
from mpc.ots import run_with_ots, split, split_bits

N = 1001


def bits_of(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2, (7, N // 7), np.uint8)


def either(party, x, y):
    return not_bits(party, and_bits(party, not_bits(party, x), not_bits(party, y)))


@pytest.mark.parametrize("function, expected", [(and_bits, np.bitwise_and), (either, np.bitwise_or)])
def test_gates(function, expected):
    x, y = bits_of(1), bits_of(2)
    outcome = run_with_ots(
        lambda party: function(party, split_bits(party, x, b"x"), split_bits(party, y, b"y")),
    )
    np.testing.assert_array_equal(outcome.xor, expected(x, y))
    assert outcome.cost == products_cost(conjunction_shapes(x.size))
    assert outcome.cost.rounds == 1


@pytest.mark.parametrize("bits", [1, 2, 8, 25, 64])
def test_bits_as_numbers(bits):
    x = bits_of(3)
    outcome = run_with_ots(lambda party: together(party, arithmetic(party, split_bits(party, x), bits))[0])
    np.testing.assert_array_equal(outcome.total, x)
    assert outcome.cost == products_cost(arithmetic_shapes(x.size, bits))
    assert outcome.cost.rounds == (bits > 1)


@pytest.mark.parametrize("bits", [1, 13, 25, 41, 64])
def test_multiplexer(bits):
    b = bits_of(4)
    x = np.random.default_rng(bits).integers(-(2 ** (bits - 1)), 2 ** (bits - 1), b.shape)
    outcome = run_with_ots(lambda party: multiplex(party, split_bits(party, b), split(party, x, bits, 1)))
    np.testing.assert_array_equal(outcome.signed, x * b)
    assert outcome.cost == products_cost(multiplexing_shapes(x.size, bits))
    assert outcome.cost.rounds == 1 and outcome.results[0].fraction_bits == 1


def test_several_protocols_share_a_round():
    b, x = bits_of(5), np.arange(N).reshape(7, -1)

    def program(party):
        bit = split_bits(party, b)
        return together(
            party,
            multiplexing(party, bit, split(party, x, 20)),
            arithmetic(party, bit, 9),
            multiplexing(party, bit, split(party, -x, 33)),
        )

    outcome = run_with_ots(program)
    shapes = multiplexing_shapes(N, 20) + arithmetic_shapes(N, 9) + multiplexing_shapes(N, 33)
    assert outcome.cost == products_cost(shapes)
    assert (outcome.cost.rounds, outcome.cost.messages) == (1, 2)
    selected, number, other = (
        sum(part.values.astype(object) for part in pair) for pair in zip(*outcome.results, strict=True)
    )
    np.testing.assert_array_equal(selected % 2**20, x * b)
    np.testing.assert_array_equal(number % 2**9, b)
    np.testing.assert_array_equal(other % 2**33, -x.astype(object) * b % 2**33)


def test_shapes_have_to_agree():
    with pytest.raises(ValueError, match="select"):
        run_with_ots(lambda party: multiplex(party, bits_of(1), split(party, np.arange(5), 9)))
