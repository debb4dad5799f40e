"""A trusted third party, for tests: it sees both parties' inputs and deals them shares of any function's value.

Every protocol's ideal functionality can be had from it, so a whole computation on shares can be tested before, beside
and against the protocols. It has no place in a real computation, and its name says so wherever it appears.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from aero.kernels.prg import Prg
from aero.mpc.fixed_point import reduce_ring
from aero.mpc.party import Party
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
