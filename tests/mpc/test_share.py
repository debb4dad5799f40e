"""Shares: arithmetic in every ring, truncation to the last step, and the one place that reveals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aero.kernels.rlwe import SEED_BYTES
from aero.mpc.cost import message
from aero.mpc.fixed_point import from_ring, reduce_ring, to_ring
from aero.mpc.party import Opening, Role
from aero.mpc.share import Share, concatenate, input_shares, known, open_cost, open_shares
from aero.wire import ProtocolError
from mpc.parties import Run, run_both

BITS = st.integers(2, 64)


def split(x: np.ndarray, bits: int, seed: int = 0, fraction_bits: int = 0) -> tuple[Share, Share]:
    """Shares of int64 numbers, as a dealer would make them."""
    mask = reduce_ring(np.random.default_rng(seed).integers(0, 2**64, x.shape, dtype=np.uint64), bits)
    return Share(reduce_ring(to_ring(x, bits) - mask, bits), bits, fraction_bits), Share(mask, bits, fraction_bits)


def joined(client: Share, server: Share) -> np.ndarray:
    assert (client.bits, client.fraction_bits) == (server.bits, server.fraction_bits)
    return from_ring(reduce_ring(client.values + server.values, client.bits), client.bits)


@given(st.data(), BITS)
def test_ring_codec(data, bits):
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    x = np.array([data.draw(st.integers(low, high)), low, high, 0, -1], dtype=np.int64)
    assert np.array_equal(from_ring(to_ring(x, bits), bits), x)
    assert [int(v) for v in to_ring(x, bits)] == [int(v) % 2**bits for v in x]


@given(st.data(), BITS)
def test_sums_and_public_factors(data, bits):
    numbers = st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    x, y, c = (data.draw(numbers) for _ in range(3))
    a, b = split(np.array([x]), bits, 1), split(np.array([y]), bits, 2)

    def modulo(z: int) -> int:
        return (z + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1)

    for found, exact in (
        ([p + q for p, q in zip(a, b, strict=True)], x + y),
        ([p - q for p, q in zip(a, b, strict=True)], x - y),
        ([-p for p in a], -x),
        ([p.times(c) for p in a], c * x),
    ):
        assert joined(*found)[0] == modulo(exact)


@given(st.data(), st.integers(3, 64))
def test_truncation_is_off_by_one_step_at_most(data, bits):
    """y is floor(x / 2^s) or one more, for every x and every sharing of it, wraps and ring ends included."""
    s = data.draw(st.integers(1, bits - 2))
    half = 2 ** (bits - 1)
    x = np.array([data.draw(st.integers(-half, half - 1)), -half, -1, 0, 1, half - 2**s - 1], dtype=np.int64)
    parts = split(x, bits, data.draw(st.integers(0, 2**32)), fraction_bits=s)
    found = [share.truncated(s) for share in parts]
    assert found[0].bits == bits - s and found[0].fraction_bits == 0
    modulus = 2 ** (bits - s)
    difference = [(int(y) - (int(v) >> s)) % modulus for y, v in zip(joined(*found), x, strict=True)]
    assert set(difference) <= {0, 1}


def test_truncation_has_no_bias():
    """The mean error over random shares is 0, not half a step or a step: sums over many terms stay right."""
    count, s = 200_000, 9
    x = np.random.default_rng(3).integers(-(2**30), 2**30, count)
    found = joined(*(share.truncated(s) for share in split(x, 41, 4, fraction_bits=s)))
    error = found - x / 2**s
    assert np.abs(error).max() <= 1
    assert abs(error.mean()) < 5 * error.std() / count**0.5  # five standard errors
    assert 0.35 < error.std() < 0.45  # of a sum of two uniform roundings: sqrt(1/6)


def test_what_does_not_fit_is_refused():
    x, _ = split(np.zeros((2, 2), dtype=np.int64), 25, fraction_bits=12)
    y, _ = split(np.zeros((2, 2), dtype=np.int64), 41, fraction_bits=12)
    with pytest.raises(ValueError, match="add up"):
        x + y
    with pytest.raises(ValueError, match="takes a protocol"):
        x.reduced(26)
    with pytest.raises(ValueError, match="cannot drop"):
        x.truncated(13)
    with pytest.raises(ValueError, match="uint64"):
        Share(np.zeros(2), 25)
    with pytest.raises(ValueError, match="1 to 64"):
        Share(np.zeros(2, dtype=np.uint64), 65)
    assert concatenate([x, x]).shape == (4, 2)


@pytest.mark.parametrize("owner", list(Role))
@pytest.mark.parametrize("bits", [7, 25, 41, 64])
def test_share_and_open(owner, bits):
    x = np.random.default_rng(bits).integers(-(2 ** (bits - 2)), 2 ** (bits - 2), (5, 3))

    def program(party):
        share = input_shares(party, owner, x.shape, bits, 3, to_ring(x, bits) if party.role is owner else None)
        seen = party.channel.traffic
        opened = [open_shares(party, share, to, "x") for to in (Role.CLIENT, Role.SERVER, None)]
        return share, seen, opened, party.channel.traffic

    run = run_both(program)
    (client, seen, to_client, traffic), (server, _, to_server, _) = run.results
    assert np.array_equal(joined(client, server), x)
    for opened, expected in ((to_client, (1, 0, 1)), (to_server, (0, 1, 1))):
        for value, learns in zip(opened, expected, strict=True):
            assert (value is not None) == learns
            assert value is None or np.array_equal(from_ring(value, bits), x)
    both = (
        open_cost(x.shape, bits, Role.CLIENT) + open_cost(x.shape, bits, Role.SERVER) + open_cost(x.shape, bits, None)
    )
    assert seen.bytes_sent + seen.bytes_received == message(owner, SEED_BYTES).total_bytes
    spent = traffic - seen
    assert (spent.bytes_sent, spent.bytes_received) == (both.bytes_client_to_server, both.bytes_server_to_client)
    assert spent.messages == both.messages
    assert run.parties[0].openings == [Opening("x", x.shape, to) for to in (Role.CLIENT, Role.SERVER, None)]


def test_a_damaged_opening_is_an_error():
    """Padding bits that are not zero: 3 values of 7 bits leave 3 of them."""

    def program(party):
        share = Share(np.full(3, 127, dtype=np.uint64), 7)
        if party.role is Role.SERVER:
            return party.channel.send(np.full(3, 255, dtype=np.uint8))
        return open_shares(party, share, Role.CLIENT, "x")

    run = Run(program)
    assert isinstance(run.failures[0], ProtocolError)


def test_what_one_party_knows():
    def program(party):
        return known(party, Role.SERVER, np.full(2, 300, dtype=np.uint64), 8)

    client, server = run_both(program).results
    assert client.values.tolist() == [0, 0] and server.values.tolist() == [44, 44]


def test_a_party_cannot_be_copied():
    import pickle

    def program(party):
        with pytest.raises(TypeError):
            pickle.dumps(party)

    run_both(program)
