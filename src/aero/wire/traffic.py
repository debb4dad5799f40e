"""What a channel counted.

Bytes are those of whole frames, headers included, as handed to the link: what TLS adds (22 bytes for each record of at
most 16 KiB) and what TCP and IP add is not included, nor is setting up the connection or the closing goodbye.

A *round* is one message delay on the longest chain of messages that depend on each other: a message belongs to round
1 + (the latest round among the messages its sender had received before sending it), as in Lamport's logical clock.
So messages that two parties send at the same time share a round, any number of messages sent in a row share a round,
and a question with its answer takes two. On a network with round-trip time r, n rounds take at least n * r / 2. The
round travels in each frame, hence both parties count the same, and the number depends on the protocol alone, not on
timing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

UNLABELLED = "(no op)"
"""The label of traffic outside every `Channel.op`."""


@dataclass(frozen=True)
class Traffic:
    """Counts of one party. `by_op` splits them: every byte, message and round belongs to exactly one label."""

    bytes_sent: int = 0
    bytes_received: int = 0
    messages: int = 0
    """Sent and received together, so that both parties count the same."""
    rounds: int = 0
    by_op: Mapping[str, Traffic] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("bytes_sent", "bytes_received", "messages", "rounds"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; subtract the earlier snapshot from the later one")
            if self.by_op and sum(getattr(part, name) for part in self.by_op.values()) != getattr(self, name):
                raise ValueError(f"{name} of the ops do not add up to the total; use Traffic.total")

    @classmethod
    def total(cls, by_op: Mapping[str, Traffic]) -> Traffic:
        """The sum of `by_op`, with the breakdown."""
        return cls(
            bytes_sent=sum(part.bytes_sent for part in by_op.values()),
            bytes_received=sum(part.bytes_received for part in by_op.values()),
            messages=sum(part.messages for part in by_op.values()),
            rounds=sum(part.rounds for part in by_op.values()),
            by_op=dict(by_op),
        )

    def __sub__(self, earlier: Traffic) -> Traffic:
        """What was counted between two snapshots of one channel; ops without traffic in between are left out."""
        nothing = Traffic()
        by_op = {label: part - earlier.by_op.get(label, nothing) for label, part in self.by_op.items()}
        return Traffic(
            self.bytes_sent - earlier.bytes_sent,
            self.bytes_received - earlier.bytes_received,
            self.messages - earlier.messages,
            self.rounds - earlier.rounds,
            {label: part for label, part in by_op.items() if part != nothing},
        )
