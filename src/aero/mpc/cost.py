"""What a protocol declares beside its code: bytes each way, messages and rounds, as functions of public shapes alone.

Counted as `aero.wire.traffic` counts them: whole frames, and a round is one message delay. The tests compare every
declaration with what the channel counted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from aero.mpc.party import Role
from aero.wire.frame import HEADER_SIZE, ArraySpec, encode_specs


@dataclass(frozen=True)
class ProtocolCost:
    """bytes_client_to_server, bytes_server_to_client: of frames. messages: of both parties. rounds: message delays.
    ots_from_client, ots_from_server: random OTs used up, by sender; what making them takes is not in the bytes.
    """

    bytes_client_to_server: int = 0
    bytes_server_to_client: int = 0
    messages: int = 0
    rounds: int = 0
    ots_from_client: int = 0
    ots_from_server: int = 0

    @property
    def total_bytes(self) -> int:
        return self.bytes_client_to_server + self.bytes_server_to_client

    def bytes_sent(self, role: Role) -> int:
        return self.bytes_client_to_server if role is Role.CLIENT else self.bytes_server_to_client

    def __add__(self, other: ProtocolCost) -> ProtocolCost:
        """One after the other, each waiting for what came before."""
        return replace(self | other, rounds=self.rounds + other.rounds)

    def __or__(self, other: ProtocolCost) -> ProtocolCost:
        """At the same time: rounds overlap."""
        return ProtocolCost(
            self.bytes_client_to_server + other.bytes_client_to_server,
            self.bytes_server_to_client + other.bytes_server_to_client,
            self.messages + other.messages,
            max(self.rounds, other.rounds),
            self.ots_from_client + other.ots_from_client,
            self.ots_from_server + other.ots_from_server,
        )


def message(sender: Role, *sizes: int) -> ProtocolCost:
    """One message of byte strings of these sizes, in a round of its own."""
    description = encode_specs([ArraySpec.of(size, np.uint8) for size in sizes])
    total = HEADER_SIZE + len(description) + sum(sizes)
    return ProtocolCost(total, 0, 1, 1) if sender is Role.CLIENT else ProtocolCost(0, total, 1, 1)


def ots_used(sender: Role, count: int) -> ProtocolCost:
    """Random OTs, and no message."""
    return ProtocolCost(ots_from_client=count) if sender is Role.CLIENT else ProtocolCost(ots_from_server=count)
