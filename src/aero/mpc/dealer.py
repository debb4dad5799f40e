"""A trusted third party, for tests: it sees both parties' inputs and deals them shares of any function's value.

Every protocol's ideal functionality can be had from it, so a whole computation on shares can be tested before, beside
and against the protocols. It has no place in a real computation, and its name says so wherever it appears.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aero.kernels.prg import Prg
from aero.kernels.rlwe import SEED_BYTES
from aero.mpc.fixed_point import reduce_ring
from aero.mpc.ot.random_ot import Blocks, RandomOts
from aero.mpc.party import Party, Role
from aero.mpc.share import Share, Words


class InsecureDealer:
    """For two parties in two threads of one process; both call the same methods in the same order.

    Shares that it deals are uniform and independent of everything before. A party that fails must `abort`, or the other
    waits for `timeout` seconds; threading.BrokenBarrierError in the other.
    """

    def __init__(self, timeout: float = 120.0) -> None:
        self._barrier = threading.Barrier(2, timeout=timeout)
        self._inputs: list[Any] = [None, None]
        self._dealt: tuple[Words, Words] | None = None
        self._stream = Prg.from_os("insecure dealer")

    def abort(self) -> None:
        self._barrier.abort()

    def deal(
        self, party: Party, mine: Any, function: Callable[[Any, Any], np.ndarray], bits: int, fraction_bits: int
    ) -> Share:
        """Fresh shares of function(the client's input, the server's), uint64 taken modulo 2^bits."""
        self._inputs[party.role] = mine
        self._barrier.wait()
        if party.is_client:
            value = reduce_ring(function(*self._inputs), bits)
            mask = self._stream.uniform(value.shape, bits)
            self._dealt = reduce_ring(value - mask, bits), mask
        self._barrier.wait()
        assert self._dealt is not None
        share = Share(self._dealt[party.role], bits, fraction_bits)
        self._barrier.wait()  # nobody begins the next deal before both have their shares
        return share

    def deal_of(
        self, party: Party, x: Share, function: Callable[[Words], np.ndarray], bits: int, fraction_bits: int
    ) -> Share:
        """Fresh shares of a function of one shared value, uint64 below 2^x.bits."""
        return self.deal(party, x.values, lambda a, b: function(reduce_ring(a + b, x.bits)), bits, fraction_bits)


class InsecureDealtOts(RandomOts):
    """Random OTs that both parties expand from one seed, for tests: either could compute what the other holds."""

    def __init__(self, role: Role, seed: bytes) -> None:
        self._role = role
        self._streams = {sender: Prg(seed, f"insecure OTs from {sender.word}") for sender in Role}

    def reserve(self, sent: int, received: int) -> None:
        pass

    def send(self, count: int) -> Blocks:
        return self._deal(self._role, count)[0]

    def receive(self, count: int) -> tuple[NDArray[np.uint8], Blocks]:
        pairs, bits = self._deal(self._role.other, count)
        return bits, pairs[np.arange(count), bits]

    def _deal(self, sender: Role, count: int) -> tuple[Blocks, NDArray[np.uint8]]:
        stream = self._streams[sender]
        pairs = np.frombuffer(stream.random_bytes(2 * 16 * count), np.uint8).reshape(count, 2, 16)
        return pairs, stream.bits(count)


def insecure_ots(seed: bytes | None = None) -> tuple[InsecureDealtOts, InsecureDealtOts]:
    """The client's and the server's end of one dealt supply, for `party.ots`."""
    seed = os.urandom(SEED_BYTES) if seed is None else seed
    return InsecureDealtOts(Role.CLIENT, seed), InsecureDealtOts(Role.SERVER, seed)
