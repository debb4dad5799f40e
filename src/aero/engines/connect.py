"""Two parties that have agreed on an engine connect it, over the authenticated channel that they already have.

Our own engine computes over that channel; the server sends its ring plan, which is public, first:

    server  ->  {ring plan, bytes}, then the plan

SPU opens connections of its own (`aero.engines.spu.connect`).
"""

from __future__ import annotations

import json

import numpy as np

from aero.engines.engine import Engine, Progress
from aero.engines.spu.engine import SpuEngine
from aero.engines.two_party.engine import TwoPartyEngine
from aero.engines.two_party.weight_store import WeightStore
from aero.graph.ring_plan import RingPlan
from aero.mpc.party import Role
from aero.wire import Channel, ProtocolError, read_json

TWO_PARTY, SPU = TwoPartyEngine.name, SpuEngine.name
ENGINES = (TWO_PARTY, SPU)
MAX_PLAN_BYTES = 64 << 20


def connect_engine(
    name: str,
    party: Role,
    channel: Channel,
    *,
    plan: RingPlan | None = None,
    insecure_plaintext: bool = False,
    progress: Progress | None = None,
    store: WeightStore | None = None,
) -> Engine:
    """The engine of this name, connected to the other party's.

    plan: number formats for our own engine, given by the server. insecure_plaintext: the channel has no TLS, and SPU's
    connections will have none. progress: told what the engine does. store: weights as encoded before, of the server by
    our own engine.
    Raises ValueError for an engine that this party does not run, ConnectionError when the other party goes away.
    """
    if name == TWO_PARTY:
        if party is Role.CLIENT:
            plan = _receive_plan(channel)
        elif plan is None:
            raise ValueError("the server gives the ring plan: compile the model with one")
        else:
            plan = plan.as_read()
            data = json.dumps(plan.to_json(), separators=(",", ":")).encode()
            channel.send_control({"say": "ring plan", "bytes": len(data)})
            channel.send(data)
        return TwoPartyEngine(party, channel, plan, progress=progress, store=store)
    if name == SPU:
        from aero.engines.spu.connect import connect_spu

        return connect_spu(party, channel, insecure_plaintext=insecure_plaintext, progress=progress)
    raise ValueError(
        f"the other party computes with {name!r}, which this aero does not have; it has {', '.join(ENGINES)}"
    )


def _receive_plan(channel: Channel) -> RingPlan:
    message = channel.recv_control()
    size = message.get("bytes")
    if message.get("say") != "ring plan" or type(size) is not int or not 0 < size <= MAX_PLAN_BYTES:
        raise ProtocolError("the other side announces no usable ring plan")
    return read_json(channel.recv(size, np.uint8).tobytes(), "the server's ring plan", RingPlan.from_json)
