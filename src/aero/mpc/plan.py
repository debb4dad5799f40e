"""Plans: what both parties, and a cost model, know of a protocol from public sizes alone, before anything is sent.

A plan is a frozen dataclass; one that leaves out what is abstract here cannot be made.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, NamedTuple, ParamSpec, TypeVar

from aero.kernels.rlwe import Params
from aero.kernels.slots import Field
from aero.mpc.cost import ProtocolCost
from aero.mpc.party import Party
from aero.mpc.share import Share

KeyKinds = tuple[Params | Field, ...]
"""Parameters, and fields, under which a party has a key: `aero.mpc.protocols.keys.exchange_keys`."""


Given = ParamSpec("Given")
Made = TypeVar("Made", covariant=True)


class Plan(ABC, Generic[Given, Made]):
    """Of one protocol. Given: what a party brings to it; Made: what it gets."""

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

    @abstractmethod
    def check(self, *given: Given.args, **named: Given.kwargs) -> None:
        """ValueError unless what is given is as this plan wants it."""

    @abstractmethod
    def _run(self, party: Party, *given: Given.args, **named: Given.kwargs) -> Made: ...

    def run(self, party: Party, *given: Given.args, **named: Given.kwargs) -> Made:
        """The protocol, as one party. ValueError unless what is given is as this plan wants it."""
        self.check(*given, **named)
        return self._run(party, *given, **named)


class TransfersAlone(Plan[Given, Made]):
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


class FunctionPlan(Plan[..., Share]):
    """Of a function of one shared value, or of two alike: [x], or [x] and [y], are given, [f(x)] or [f(x, y)] made."""

    @property
    @abstractmethod
    def reads(self) -> Reads:
        """How each is wanted."""

    def check(self, *values: Share) -> None:
        for x in values:
            found = Reads(x.shape, x.bits, x.fraction_bits)
            if found != self.reads:
                raise ValueError(f"the plan is for {_described(self.reads)}, not {_described(found)}")


def _described(of: Reads) -> str:
    return f"{list(of.shape)} in a ring of {of.bits} bits, {of.fraction_bits} of them fractional"
