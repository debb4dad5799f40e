"""What a client makes of the ring plan that a server sends it."""

import json

import pytest

from aero.engines.connect import TWO_PARTY, connect_engine
from aero.graph.ring_plan import Format, RingPlan, ScoreWindow
from aero.mpc.party import Role
from aero.wire import ProtocolError
from aero.wire.memory import channel_pair

PLAN = RingPlan({"x": Format(20, 8)}, {}, {}).to_json()


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"{", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (json.dumps({**PLAN, "format_version": 0}).encode(), "not a ring plan"),
        (json.dumps({**PLAN, "values": {"x": [1 << 70, 8]}}).encode(), "is not usable"),
        (json.dumps({**PLAN, "products": {"\x1b[2J": 1}}).encode(), "is not usable"),
        (b"", "announces no usable ring plan"),
    ],
)
def test_a_plan_that_is_none_is_the_servers_fault(data: bytes, complaint: str):
    client, server = channel_pair(timeout=10)
    server.send_control({"say": "ring plan", "bytes": len(data)})
    server.send(data)
    with pytest.raises(ProtocolError, match=complaint) as caught:
        connect_engine(TWO_PARTY, Role.CLIENT, client)
    assert str(caught.value).isprintable()


def test_the_client_gets_two_numbers_of_each_window():
    """Both ends of a head's row maxima, which the engine reads; how they were measured stays with the server."""
    window = ScoreWindow("softmax", 0, row_maximum=(-1.0, 3.0), outside=(-2.5, 2.0), lowest=-40.0)
    client, server = channel_pair(timeout=10)
    plan = RingPlan({"x": Format(20, 8)}, {}, {}, windows=(window,))
    mine = connect_engine(TWO_PARTY, Role.SERVER, server, plan=plan)
    theirs = connect_engine(TWO_PARTY, Role.CLIENT, client)
    [seen] = theirs._plan.windows
    assert seen == ScoreWindow("softmax", 0, (-2.5, 3.0), (-2.5, 3.0), -2.5) == mine._plan.windows[0]
    assert (seen.reference, seen.spread) == (window.reference, window.spread)
