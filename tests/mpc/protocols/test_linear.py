"""Weights times shares: right within the derived bound, at the declared cost, or refused."""

import dataclasses

import numpy as np
import pytest

from aero.kernels import ring
from aero.kernels.rlwe import WEIGHTS, WIDE
from aero.mpc.fixed_point import from_ring, reduce_ring, to_ring
from aero.mpc.party import Role
from aero.mpc.protocols.keys import exchange_keys, keys_cost
from aero.mpc.protocols.linear import load_weights, plan_linear
from aero.mpc.share import input_shares
from aero.wire import ProtocolError
from mpc.parties import Run, run_both

# rows, inner, columns, ring bits, output bits
SHAPES = [(5, 70, 9, 41, 25), (64, 128, 96, 37, 25), (1, 192, 100, 41, 25), (3, 40, 7, 64, 48), (2, 5, 3, 43, 27)]


def multiply(shape, w, x, loaded=None, max_error=32.0):
    rows, inner, columns, bits, out_bits = shape
    plan = plan_linear(rows, inner, columns, bits, out_bits, max_error=max_error)
    loaded = loaded or load_weights(plan, w)

    def program(party):
        exchange_keys(party, (plan.product.params,))
        share = input_shares(party, Role.CLIENT, x.shape, bits, 14, to_ring(x, bits) if party.is_client else None)
        party.channel.exchange(np.zeros(1))
        if party.is_client:
            party.channel.recv(1)
        else:
            party.channel.send(np.zeros(1, np.uint64))
        before = party.channel.traffic
        y = plan.run(party, share, 16, None if party.is_client else loaded)
        return share, y, party.channel.traffic - before

    return plan, loaded, run_both(program)


@pytest.mark.parametrize("shape", SHAPES)
def test_product_and_cost(shape):
    rows, inner, columns, bits, out_bits = shape
    rng = np.random.default_rng(bits)
    x = rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (rows, inner))  # all of the ring: nothing may depend on size
    w = rng.integers(-(2**13), 2**13, (inner, columns))
    plan, loaded, run = multiply(shape, w, x)
    (_, client, traffic), (_, server, _) = run.results
    assert client.bits == server.bits == out_bits
    assert client.fraction_bits == 14 + 16 - (bits - out_bits)
    exact = from_ring(reduce_ring(ring.matmul(to_ring(x, 64), to_ring(w, 64)), bits), bits) / 2.0 ** (bits - out_bits)
    found = from_ring(reduce_ring(client.values + server.values, out_bits), out_bits)
    error = np.remainder(found - exact + 2.0 ** (out_bits - 1), 2.0**out_bits) - 2.0 ** (out_bits - 1)
    assert 0 < np.abs(error).max() <= loaded.noise.total <= plan.max_error
    cost = plan.cost()
    assert (traffic.bytes_sent, traffic.bytes_received) == (cost.bytes_client_to_server, cost.bytes_server_to_client)
    assert (traffic.messages, traffic.rounds) == (cost.messages, cost.rounds) == (2, 2)


def test_a_few_rows_read_the_transforms_of_a_single_one():
    """Of GPT-2 small's logits, which are shown; not of its queries, keys and values, nor of a whole prompt's logits."""
    logits = {"opened": True, "weight_bits": 16}
    single = plan_linear(1, 768, 50257, 38, 22, **logits)
    for rows in (2, 4, 8):
        plan = plan_linear(rows, 768, 50257, 38, 22, **logits)
        assert plan.prepared and dataclasses.replace(plan.product, rows=1) == single.product
        assert plan.product.prepared_size == single.product.prepared_size
    assert not plan_linear(128, 768, 50257, 38, 22, **logits).prepared
    assert single.prepared and not plan_linear(8, 768, 2304, 39, 23).prepared


def test_cost_of_keys():
    def program(party):
        exchange_keys(party, (WEIGHTS, WIDE), (WEIGHTS,))
        return party.channel.traffic

    cost = keys_cost((WEIGHTS, WIDE), (WEIGHTS,))
    client, server = run_both(program).results
    assert (client.bytes_sent, client.bytes_received) == (cost.bytes_client_to_server, cost.bytes_server_to_client)
    assert (client.messages, client.rounds) == (cost.messages, cost.rounds) == (3, 1)
    assert server.rounds == 1


def test_parts_of_the_result_are_fresh():
    """Two runs on the same numbers give different parts of the same result."""
    shape = SHAPES[0]
    rng = np.random.default_rng(5)
    x, w = rng.integers(-(2**20), 2**20, (5, 70)), rng.integers(-(2**13), 2**13, (70, 9))
    first, second = (multiply(shape, w, x)[2].results for _ in range(2))
    for role in Role:
        assert not np.any(first[role][1].values == second[role][1].values)


def test_weights_whose_noise_would_not_fit_are_refused():
    plan = plan_linear(4, 512, 8, 41, 41)  # no bit is dropped, so noise is not either
    with pytest.raises(ValueError, match=r"noise may reach .* are allowed"):
        load_weights(plan, np.full((512, 8), 2**15))
    plan = plan_linear(4, 512, 8, 41, 25)
    load_weights(plan, np.full((512, 8), 2**12))
    with pytest.raises(ValueError, match="noise may reach"):  # the actual weights count, not an average
        one_large = np.zeros((512, 8), dtype=np.int64)
        one_large[:, 3] = 2**20
        load_weights(plan, one_large)


def test_worst_case_weights_stay_within_their_bound():
    """All weights as large, and of one sign, as the bound lets through; shares at the ends of the ring."""
    shape = (8, 256, 4, 41, 25)
    x = np.full((8, 256), 2**40 - 1)
    x[::2] = -(2**40)
    w = np.full((256, 4), 2**15 - 1)
    _, loaded, run = multiply(shape, w, x)
    (_, client, _), (_, server, _) = run.results
    exact = from_ring(reduce_ring(ring.matmul(to_ring(x, 64), to_ring(w, 64)), 41), 41) / 2.0**16
    found = from_ring(reduce_ring(client.values + server.values, 25), 25)
    error = np.remainder(found - exact + 2.0**24, 2.0**25) - 2.0**24
    assert np.abs(error).max() <= loaded.noise.total


def test_the_server_brings_weights_for_this_plan():
    plan, other = plan_linear(2, 8, 3, 41, 25), plan_linear(3, 8, 3, 41, 25)
    loaded = load_weights(other, np.ones((8, 3), dtype=np.int64))

    def program(party):
        share = input_shares(
            party, Role.SERVER, (2, 8), 41, 14, np.ones((2, 8), np.uint64) if not party.is_client else None
        )
        if not party.is_client:
            with pytest.raises(ValueError, match="loaded for this plan"):
                plan.run(party, share, 16, loaded)
        else:
            with pytest.raises(ValueError, match="run exchange_keys"):
                plan.run(party, share, 16)

    run_both(program)


def test_damaged_uploads_are_an_error_on_both_sides():
    plan = plan_linear(2, 8, 3, 41, 25)
    loaded = load_weights(plan, np.ones((8, 3), dtype=np.int64))

    def program(party):
        exchange_keys(party, (plan.product.params,))
        share = input_shares(
            party, Role.SERVER, (2, 8), 41, 14, np.ones((2, 8), np.uint64) if not party.is_client else None
        )
        with party.channel:
            if party.is_client:
                party.channel.send(np.full(plan.product.upload_bytes, 255, dtype=np.uint8))
                return party.channel.recv(plan.product.response_bytes, np.uint8)
            return plan.run(party, share, 16, loaded)

    run = Run(program)
    assert isinstance(run.failures[1], ProtocolError) and "below its modulus" in str(run.failures[1])
    assert isinstance(run.failures[0], ConnectionError)
