"""Random oblivious transfers: what every protocol that needs OT draws, and may use once.

One random OT gives its sender two uniform blocks of 128 bits, and its receiver one uniform bit c and the c-th block;
the sender learns nothing of c, the receiver nothing of the other block.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aero.wire import Channel

Blocks = NDArray[np.uint8]


class RandomOts(ABC):
    """One party's end of a supply of random OTs, in both directions.

    Both parties ask for the same numbers in the same order: one calls `send` where the other calls `receive`. What was
    given out is never given out again.
    """

    def serves(self, channel: Channel) -> bool:
        """Whether these OTs are with the party at the other end of this channel."""
        return True

    @property
    def made(self) -> int:
        """How many there were so far, of both directions; 0 where nobody counts them."""
        return 0

    @abstractmethod
    def reserve(self, sent: int, received: int) -> None:
        """Have at least this many ready in each direction, so that `send` and `receive` take no message. The other
        party reserves the mirrored numbers at the same point."""

    @abstractmethod
    def send(self, count: int) -> Blocks:
        """This party's end as sender: blocks uint8 [count, 2, 16]."""

    @abstractmethod
    def receive(self, count: int) -> tuple[NDArray[np.uint8], Blocks]:
        """This party's end as receiver: bits uint8 [count], each 0 or 1, and blocks uint8 [count, 16]."""

    def work_ahead(self) -> bool:
        """Do a little of the work, some milliseconds, that OTs which are ready will take when they are given out, if
        there is any that may be done ahead: whether there was. No message, and no other OTs for it."""
        return False

    def send_several(self, counts: Sequence[int]) -> Blocks:
        """What `send` gives for these counts in turn, in one array."""
        return np.concatenate([self.send(count) for count in counts])

    def receive_several(self, counts: Sequence[int]) -> tuple[NDArray[np.uint8], Blocks]:
        """What `receive` gives for these counts in turn, in an array of bits and an array of blocks."""
        bits, blocks = zip(*map(self.receive, counts), strict=True)
        return np.concatenate(bits), np.concatenate(blocks)
