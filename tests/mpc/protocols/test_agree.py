"""Comparing public data: equal data pass at the declared cost; what differs is named at both parties."""

import pytest

from aero.mpc.party import Role
from aero.mpc.protocols.agree import agree, agree_cost
from mpc.parties import Run, run_both


def test_equal_data_pass_at_the_declared_cost():
    outcome = run_both(lambda party: agree(party, {"graph": {"a": [1, 2], "b": 0.5}, "ring plan": {"x": [25, 12]}}))
    cost = agree_cost(2)
    for role, party in zip(Role, outcome.parties, strict=True):
        traffic = party.channel.traffic
        assert traffic.bytes_sent == cost.bytes_sent(role) == sum(map(len, outcome.sent[role]))
        assert (traffic.messages, traffic.rounds) == (cost.messages, cost.rounds) == (2, 1)


@pytest.mark.parametrize("differing", [["graph"], ["ring plan"], ["graph", "ring plan"]])
def test_what_differs_is_named_at_both_parties(differing):
    def program(party):
        agree(party, {name: [1, int(name in differing and party.is_client)] for name in ("graph", "ring plan")})

    for failure in Run(program).failures:
        assert isinstance(failure, ValueError)
        assert f"do not have the same {' and '.join(differing)}:" in str(failure)
