"""Plans: what both parties, and a cost model, know of a protocol from public sizes alone, before anything is sent.

A plan is a frozen dataclass; one that leaves out what is abstract here cannot be made.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

from aero.kernels.rlwe import Params
from aero.kernels.slots import Field
from aero.mpc.cost import ProtocolCost
from aero.mpc.party import Party
from aero.mpc.share import Share

KeyKinds = tuple[Params | Field, ...]
"""Parameters, and fields, under which a party has a key: `aero.mpc.protocols.keys.exchange_keys`."""


class Plan(ABC):
    """Of one protocol."""

    @property
    @abstractmethod
    def client_keys(self) -> KeyKinds:
        """What the client encrypts under; empty where it does not."""

    @property
    @abstractmethod
    def server_keys(self) -> KeyKinds:
        """What the server encrypts under; empty where it does not."""

    @abstractmethod
    def cost(self) -> ProtocolCost:
        """What it sends, and the OTs that it uses up."""


class TransfersAlone(Plan):
    """Of a protocol that needs nothing but oblivious transfers: what encrypts nothing says so."""

    @property
    def client_keys(self) -> KeyKinds:
        return ()

    @property
    def server_keys(self) -> KeyKinds:
        return ()


class Reads(NamedTuple):
    """How a shared value is wanted: its shape, the bits of its ring, its fractional bits."""

    shape: tuple[int, ...]
    bits: int
    fraction_bits: int


class FunctionPlan(Plan):
    """Of a function of one shared value."""

    @property
    @abstractmethod
    def reads(self) -> Reads:
        """How [x] is wanted."""

    @abstractmethod
    def _run(self, party: Party, x: Share) -> Share: ...

    def check(self, x: Share) -> None:
        """ValueError unless [x] is as this plan wants it."""
        found = Reads(x.shape, x.bits, x.fraction_bits)
        if found != self.reads:
            raise ValueError(f"the plan is for {_described(self.reads)}, not {_described(found)}")

    def run(self, party: Party, x: Share) -> Share:
        """[f(x)], as one party. ValueError unless [x] is as this plan wants it."""
        self.check(x)
        return self._run(party, x)


def _described(of: Reads) -> str:
    return f"{list(of.shape)} in a ring of {of.bits} bits, {of.fraction_bits} of them fractional"
