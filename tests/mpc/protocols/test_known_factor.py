"""Numbers times factors that the server knows: exact, at the declared cost."""

import numpy as np
import pytest

from aero.mpc.dealer import insecure_ots
from aero.mpc.fixed_point import reduce_ring, to_ring
from aero.mpc.party import Party, Role
from aero.mpc.protocols.known_factor import KnownFactorPlan
from aero.mpc.share import Share
from mpc.parties import run_both


@pytest.mark.parametrize("ring_bits, factor_bits", [(39, 18), (64, 20), (20, 20), (12, 2)])
def test_the_product_is_exact(ring_bits, factor_bits):
    plan, rng = KnownFactorPlan((3, 50), ring_bits, factor_bits), np.random.default_rng(ring_bits)
    half = 1 << (factor_bits - 1)
    factor = rng.integers(-half, half, plan.shape)
    factor[0, :3] = -half, half - 1, 0
    parts = [reduce_ring(rng.integers(0, 2**64, plan.shape, dtype=np.uint64), ring_bits) for _ in range(2)]
    ends = insecure_ots()

    def program(party: Party):
        party.ots = ends[party.role]
        x = Share(parts[party.role], ring_bits, 5)
        y = plan.run(party, x, 7, None if party.is_client else factor)
        return y, party.channel.traffic

    (client, traffic), (server, _) = run_both(program).results
    expected = reduce_ring((parts[0] + parts[1]) * to_ring(factor, 64), ring_bits)
    assert (reduce_ring(client.values + server.values, ring_bits) == expected).all()
    assert (client.bits, client.fraction_bits) == (ring_bits, 12)
    cost = plan.cost()
    assert (traffic.bytes_sent, traffic.bytes_received) == (cost.bytes_client_to_server, cost.bytes_server_to_client)
    assert (traffic.messages, traffic.rounds) == (cost.messages, cost.rounds)
    assert (cost.ots_from_client, cost.ots_from_server) == (150 * factor_bits, 0)


def test_a_factor_that_does_not_fit_is_refused():
    plan = KnownFactorPlan((1,), 20, 4)
    party = Party(Role.SERVER, None)
    for value in (8, -9):
        with pytest.raises(ValueError, match="4 bits"):
            plan.run(party, Share(np.zeros(1, np.uint64), 20), 0, np.array([value]))
