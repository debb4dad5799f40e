"""Shares times shares: right within the derived bound, at the declared cost, dead entries left out."""

import math

import numpy as np
import pytest

from aero.graph.heads import causal_mask
from aero.kernels import ring
from aero.kernels.lattice_noise import NoRoomError
from aero.kernels.rlwe import SHARES, WIDE
from aero.mpc.fixed_point import from_ring, reduce_ring, to_ring
from aero.mpc.hints import KEY_ROOM, LOG_LOSS, SERVER_NOISE
from aero.mpc.party import Role
from aero.mpc.protocols.keys import exchange_keys
from aero.mpc.protocols.pair import MIN_GUARD, plan_attend, plan_pair, plan_scores
from aero.mpc.share import input_shares
from mpc.parties import run_both


def multiply(plan, x, y, fraction_bits=14):
    bits = plan.ring_bits

    def program(party):
        exchange_keys(party, (plan.params,), (plan.params,))
        left = input_shares(
            party, Role.CLIENT, x.shape, bits, fraction_bits, to_ring(x, bits) if party.is_client else None
        )
        right = input_shares(
            party, Role.SERVER, y.shape, bits, fraction_bits, None if party.is_client else to_ring(y, bits)
        )
        party.channel.exchange(np.zeros(1))
        before = party.channel.traffic
        z = plan.run(party, left, right)
        return z, party.channel.traffic - before

    (client, traffic), (server, _) = run_both(program).results
    cost = plan.cost()
    assert (traffic.bytes_sent, traffic.bytes_received) == (cost.bytes_client_to_server, cost.bytes_server_to_client)
    assert (traffic.messages, traffic.rounds) == (cost.messages, cost.rounds) == (4, 2)
    out = plan.output_bits
    return from_ring(reduce_ring(client.values + server.values, out), out), client


def error_of(plan, found, x, y):
    bits, out = plan.ring_bits, plan.output_bits
    exact = from_ring(reduce_ring(ring.matmul(to_ring(x, 64), to_ring(y, 64)), bits), bits) / 2.0 ** (bits - out)
    return np.abs(np.remainder(found - exact + 2.0 ** (out - 1), 2.0**out) - 2.0 ** (out - 1))


@pytest.mark.parametrize("shape", [(3, 20, 16, 20), (2, 1, 16, 33), (1, 5, 40, 6)])
@pytest.mark.parametrize("bits, out_bits", [(41, 25), (37, 21), (60, 44)])
def test_product_and_cost(shape, bits, out_bits):
    heads, rows, inner, columns = shape
    rng = np.random.default_rng(bits)
    plan = plan_pair(heads, rows, inner, columns, bits, out_bits)
    x = rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (heads, rows, inner))
    y = rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (heads, inner, columns))
    found, share = multiply(plan, x, y)
    assert share.fraction_bits == 28 - (bits - out_bits)
    assert 0 < error_of(plan, found, x, y).max() <= plan.error <= 160


@pytest.mark.parametrize(
    "queries, keys, group", [(24, 24, 1), (5, 21, 1), (1, 40, 1), (24, 24, 3), (7, 9, 4), (1, 40, 3)]
)
def test_causal_products_leave_dead_entries_out(queries, keys, group):
    """group: so many rows of each position, one after the other."""
    heads, width, rows = 2, 16, queries * group
    rng = np.random.default_rng(queries)
    q = rng.integers(-(2**16), 2**16, (heads, rows, width))
    k = rng.integers(-(2**16), 2**16, (heads, width, keys))
    live = np.repeat(causal_mask(queries, keys), group, axis=0)
    plan = plan_scores(heads, queries, keys, width, 41, 25, group=group)
    found, _ = multiply(plan, q, k)
    assert error_of(plan, found, q, k)[:, live].max() <= plan.error
    p = np.where(live, rng.integers(0, 2**16, (heads, rows, keys)), 0)
    v = rng.integers(-(2**16), 2**16, (heads, keys, width))
    plan = plan_attend(heads, queries, keys, width, 41, 25, group=group)
    found, _ = multiply(plan, p, v)
    assert error_of(plan, found, p, v).max() <= plan.error


def test_a_single_query_shares_ciphertexts_among_heads():
    heads, width, keys = 12, 64, 129
    rng = np.random.default_rng(3)
    k, v = (rng.integers(-(2**40), 2**40, shape) for shape in ((heads, width, keys), (heads, keys, width)))
    for make, y in ((plan_scores, k), (plan_attend, v)):
        x = rng.integers(-(2**40), 2**40, (heads, 1, y.shape[1]))
        plan = make(heads, 1, keys, width, 41, 25)
        assert plan.joined > 1
        found, _ = multiply(plan, x, y)
        assert error_of(plan, found, x, y).max() <= plan.error <= 160
        assert plan.cost().total_bytes < 350_000
        apart = make(1, 1, keys, width, 41, 25)
        assert plan.cost().total_bytes < heads * apart.cost().total_bytes / 3


def test_blocks_cover_what_is_live_and_less_than_all():
    plans = [
        make(12 // group, 128, 128, 64, 41, 25, group=group) for make in (plan_scores, plan_attend) for group in (1, 3)
    ]
    for plan in plans:
        live = np.repeat(causal_mask(128, 128), plan.rows // 128, axis=0)
        covered = np.zeros_like(live)
        for block in plan.blocks:
            columns = block.columns if plan.columns == 128 else block.inner
            covered[block.start : block.stop, :columns] = True
        assert (covered >= live).all()
        assert len(plan.blocks) == 1 or not covered.all()


def test_what_no_parameters_hold_is_refused():
    with pytest.raises(ValueError, match=r"within 0\.001 steps"):
        plan_pair(1, 4, 4, 4, 41, 25, max_error=0.001)


def test_what_is_no_product_is_not_taken_for_one_without_a_tiling():
    for sizes, reason in (((1, 4, 4, 4, 64, 60), "60 bits: drop more"), ((1, 4, 4, 0, 41, 25), "empty product")):
        with pytest.raises(ValueError, match=reason):
            plan_pair(*sizes)
    with pytest.raises(ValueError, match=r"within 0\.001 steps"):
        plan_pair(1, 4, 4, 4, 2, 2, max_error=0.001)  # more digits than bits are no plan, so none is tried


def test_wrong_shapes_are_refused():
    plan = plan_pair(1, 4, 8, 4, 41, 25)

    def program(party):
        exchange_keys(party, (plan.params,), (plan.params,))
        x = input_shares(
            party, Role.CLIENT, (1, 4, 7), 41, 14, np.zeros((1, 4, 7), np.uint64) if party.is_client else None
        )
        with pytest.raises(ValueError, match="not those of the plan"):
            plan.run(party, x, x)

    run_both(program)


@pytest.mark.parametrize("params", [SHARES, WIDE])
def test_hints_average_out_before_a_key_is_worn(params):
    """What `hints.KEY_ROOM` allows for: no eigenvalue of the hints of a worn key is 5 % above their mean. That of all
    rotations of a uniform polynomial is its square at a root, exponential, of which as many are summed as there were
    ciphertexts (Chernoff), at each of n roots."""
    ciphertexts = KEY_ROOM * SERVER_NOISE**2 * 12 * 4**MIN_GUARD / params.n
    assert math.log2(params.n) - ciphertexts * (0.05 - math.log(1.05)) / math.log(2) < -LOG_LOSS


def test_a_product_that_leaves_few_guard_bits_is_refused():
    assert {product.guard_a for product in plan_pair(2, 8, 16, 8, 60, 48).products} == {MIN_GUARD}
    with pytest.raises(NoRoomError, match="49 bits: drop more, to 48"):
        plan_pair(2, 8, 16, 8, 60, 49)
