"""What a client makes of the ring plan that a server sends it."""

import json

import pytest

from aero.engines.connect import TWO_PARTY, connect_engine
from aero.engines.engine import Party
from aero.graph.ring_plan import Format, RingPlan
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
        connect_engine(TWO_PARTY, Party.CLIENT, client)
    assert str(caught.value).isprintable()
