"""What a protocol declares beside its code: bytes each way, messages and rounds, as functions of public shapes alone.

Counted as `aero.wire.traffic` counts them: whole frames, and a round is one message delay. The tests compare every
declaration with what the channel counted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from aero.mpc.party import Role
from aero.mpc.work import Work, sum_of
from aero.wire.frame import HEADER_SIZE, ArraySpec, encode_specs

NEVER = -math.inf
Delays = tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True)
class ProtocolCost:
    """bytes_client_to_server, bytes_server_to_client: of frames. messages: of both parties.
    ots_from_client, ots_from_server: random OTs used up, by sender; what making them takes is not in the bytes.
    delays: entry [i][j] says how many message delays after party j began party i can be done, at least.

    client_work, server_work: what each party computes, beyond what its OTs, bytes and messages take.

    With `delays`, which multiply as matrices over (max, +), rounds come out exactly when protocols follow one another:
    a message that does not wait for the last answer shares its round, as on the wire.
    """

    bytes_client_to_server: int = 0
    bytes_server_to_client: int = 0
    messages: int = 0
    ots_from_client: int = 0
    ots_from_server: int = 0
    delays: Delays = ((0, NEVER), (NEVER, 0))
    client_work: Work = field(default_factory=dict, compare=False)
    server_work: Work = field(default_factory=dict, compare=False)

    @property
    def rounds(self) -> int:
        """Message delays on the longest chain, both parties having begun at the same time."""
        return int(max(map(max, self.delays)))

    @property
    def total_bytes(self) -> int:
        return self.bytes_client_to_server + self.bytes_server_to_client

    def bytes_sent(self, role: Role) -> int:
        return self.bytes_client_to_server if role is Role.CLIENT else self.bytes_server_to_client

    def __add__(self, other: ProtocolCost) -> ProtocolCost:
        """One after the other, each party going on as soon as it can."""
        (a, b), (c, d) = self.delays
        rows = [(max(x + a, y + c), max(x + b, y + d)) for x, y in other.delays]
        return replace(self | other, delays=(rows[0], rows[1]))

    def __or__(self, other: ProtocolCost) -> ProtocolCost:
        """At the same time: rounds overlap."""
        rows = [(max(a, c), max(b, d)) for (a, b), (c, d) in zip(self.delays, other.delays, strict=True)]
        return ProtocolCost(
            self.bytes_client_to_server + other.bytes_client_to_server,
            self.bytes_server_to_client + other.bytes_server_to_client,
            self.messages + other.messages,
            self.ots_from_client + other.ots_from_client,
            self.ots_from_server + other.ots_from_server,
            (rows[0], rows[1]),
            sum_of(self.client_work, other.client_work),
            sum_of(self.server_work, other.server_work),
        )


def message(sender: Role, *sizes: int) -> ProtocolCost:
    """One message of byte strings of these sizes, in a round of its own."""
    description = encode_specs([ArraySpec.of(size, np.uint8) for size in sizes])
    total = HEADER_SIZE + len(description) + sum(sizes)
    if sender is Role.CLIENT:
        return ProtocolCost(total, 0, 1, delays=((0, NEVER), (1, 0)))
    return ProtocolCost(0, total, 1, delays=((0, 1), (NEVER, 0)))


def computed(role: Role, work: Work) -> ProtocolCost:
    """Work of one party, and no message."""
    return ProtocolCost(client_work=work) if role is Role.CLIENT else ProtocolCost(server_work=work)


def ots_used(sender: Role, count: int) -> ProtocolCost:
    """Random OTs, and no message."""
    return ProtocolCost(ots_from_client=count) if sender is Role.CLIENT else ProtocolCost(ots_from_server=count)
