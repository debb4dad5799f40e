"""Correlated OTs in one direction: what random ones are hashed from.

The sender has one secret difference Delta for all, whose lowest bit is one. Of each OT it has a block K, the receiver a
bit c and the block M = K ^ c Delta. K's lowest bit is zero, so M's lowest bit is c: blocks alone say everything.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from aero.kernels.gf128 import BLOCK_BYTES
from aero.mpc.ot.consistency import DIGEST_BYTES
from aero.mpc.ot.random_ot import Blocks

CHALLENGE_BYTES, ANSWER_BYTES = BLOCK_BYTES, DIGEST_BYTES


class CorrelatedOts(ABC):
    """One party's end of one direction. Made in units of a fixed number of OTs, any number of them by one message, from
    the end that `speaks` to the end that hears; given out in order, each once. Not copyable.

    Where `Stock.challenged`, a challenge of the end that hears and an answer follow, before anything is taken. Messages
    that fail a check: ProtocolError.
    """

    speaks: bool
    at_once: int
    """How many OTs to take at a time where many are wanted."""

    def speak(self, units: int) -> NDArray[np.uint8]:
        """Make units, and the message about them."""
        raise NotImplementedError("this end hears")

    def hear(self, units: int, message: NDArray[np.uint8]) -> None:
        """Make units from the other end's message about them."""
        raise NotImplementedError("this end speaks")

    def challenge(self) -> NDArray[np.uint8]:
        """To the end that speaks, about the units that were just heard: [CHALLENGE_BYTES]."""
        raise NotImplementedError("this end is not the one to challenge the other")

    def sum_up(self) -> Blocks:
        """What of the answer does not wait for the challenge, made at most once."""
        raise NotImplementedError("this end is not challenged")

    def answer(self, challenge: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """To the other end's challenge: [ANSWER_BYTES]."""
        raise NotImplementedError("this end is not challenged")

    def check(self, answer: NDArray[np.uint8]) -> None:
        """The other end's answer."""
        raise NotImplementedError("this end is not the one to challenge the other")

    def work_ahead(self, most: int) -> bool:
        """Do a little of the work for the next `most` OTs, which are made and checked: whether there was any."""
        return False

    @abstractmethod
    def take(self, count: int) -> Blocks:
        """The next blocks K, or M [count, 16], of those made."""

    def __reduce__(self) -> NoReturn:
        raise TypeError("correlated OTs cannot be copied or pickled: they would be used twice")


@dataclass
class Stock:
    """How many correlated OTs of one direction there are: public numbers, the same at both parties.

    unit: how many one unit gives. unit_bytes: its message. challenged: whether the end that hears challenges the other.
    """

    unit: int
    unit_bytes: int
    challenged: bool
    ready: int = 0
    used: int = 0

    def units_for(self, count: int) -> int:
        """How many units to make so that `count` are ready."""
        return max(0, -(-(count - self.ready) // self.unit))

    def add(self, units: int) -> None:
        self.ready += units * self.unit

    def use(self, count: int) -> None:
        assert 0 <= count <= self.ready, "OTs are used that were never made"
        self.ready -= count
        self.used += count


class Queue:
    """Blocks that wait to be taken."""

    def __init__(self) -> None:
        self._waiting: deque[Blocks] = deque()
        self.size = 0

    def put(self, blocks: Blocks) -> None:
        self._waiting.append(blocks)
        self.size += len(blocks)

    def take(self, count: int) -> Blocks:
        """The first `count`: uint8 [count, 16], not kept here any more."""
        assert 0 <= count <= self.size, "blocks are taken that were never made"
        self.size -= count
        parts = [np.empty((0, 16), np.uint8)]
        while count:
            head = self._waiting.popleft()
            parts.append(head[:count])
            if len(head) > count:
                self._waiting.appendleft(head[count:])
            count -= len(parts[-1])
        return parts[1] if len(parts) == 2 else np.concatenate(parts)
