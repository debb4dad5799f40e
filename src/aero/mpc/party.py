"""One side of a two-party computation: who it is, its channel, its randomness, its keys.

A `Party` is the explicit first argument of every protocol; nothing is global.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import NoReturn, ParamSpec, TypeVar

from aero.kernels.prg import Prg
from aero.kernels.rlwe import SEED_BYTES, Params, PublicKeys, SecretKey
from aero.kernels.slots import Field, SlotPublicKey, SlotSecret
from aero.mpc.ot.random_ot import RandomOts
from aero.wire import Channel, ProtocolError

P = ParamSpec("P")
T = TypeVar("T")


class Role(IntEnum):
    """Which of the two parties. The client has the prompt and learns the output, the server has the weights."""

    CLIENT = 0
    SERVER = 1

    @property
    def other(self) -> Role:
        return Role.SERVER if self is Role.CLIENT else Role.CLIENT

    @property
    def word(self) -> str:
        """ "client" or "server", in names of files and in messages."""
        return self.name.lower()


@dataclass(frozen=True)
class Opening:
    """One value that was revealed: its name, its shape, and to whom (None: both)."""

    what: str
    shape: tuple[int, ...]
    to: Role | None


class Party:
    """This side. For one thread, and for the length of one channel.

    Every purpose has a stream of pseudorandomness of its own, seeded by the operating system; there is no way to pass a
    seed in. Not copyable: a copy would repeat its masks.
    """

    def __init__(self, role: Role, channel: Channel) -> None:
        self.role = role
        self.channel = channel
        self.secret_keys: dict[Params, SecretKey] = {}
        self.peer_keys: dict[Params, PublicKeys] = {}
        self.slot_secrets: dict[Field, SlotSecret] = {}
        self.peer_slot_keys: dict[Field, SlotPublicKey] = {}
        self.openings: list[Opening] = []
        self._ots: RandomOts | None = None
        self._streams: dict[str, Prg] = {}

    def __reduce__(self) -> NoReturn:
        raise TypeError("a party cannot be copied or pickled: its randomness would repeat")

    @property
    def is_client(self) -> bool:
        return self.role is Role.CLIENT

    def stream(self, purpose: str) -> Prg:
        """This party's private stream for one purpose."""
        if purpose not in self._streams:
            self._streams[purpose] = self._new_stream(purpose)
        return self._streams[purpose]

    def fresh_seed(self) -> bytes:
        """16 bytes never used before, to be made public or to be sent to the other party."""
        return self.stream("seeds").random_bytes(SEED_BYTES)

    def secret_key(self, params: Params) -> SecretKey:
        if params not in self.secret_keys:
            raise ValueError("this party has no secret key for these parameters: run exchange_keys with them first")
        return self.secret_keys[params]

    def keys_of_peer(self, params: Params) -> PublicKeys:
        if params not in self.peer_keys:
            raise ValueError("the other party sent no keys for these parameters: run exchange_keys with them first")
        return self.peer_keys[params]

    def slot_secret(self, field: Field) -> SlotSecret:
        if field not in self.slot_secrets:
            raise ValueError("this party has no secret key for this field: run exchange_keys with it first")
        return self.slot_secrets[field]

    def slot_key_of_peer(self, field: Field) -> SlotPublicKey:
        if field not in self.peer_slot_keys:
            raise ValueError("the other party sent no key for this field: run exchange_keys with it first")
        return self.peer_slot_keys[field]

    @property
    def has_ots(self) -> bool:
        return self._ots is not None

    @property
    def ots(self) -> RandomOts:
        """This party's supply of random OTs."""
        if self._ots is None:
            raise ValueError("this party has no oblivious transfers yet: run set_up_ots first")
        return self._ots

    @ots.setter
    def ots(self, supply: RandomOts) -> None:
        if not supply.serves(self.channel):
            raise ValueError("these OTs belong to another channel: run set_up_ots over this one")
        self._ots = supply

    def _new_stream(self, purpose: str) -> Prg:
        return Prg.from_os(f"{self.role.word}/{purpose}")


def parse(read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`read(*args)` of what arrived; a ValueError of the reader is the other side's fault and becomes a ProtocolError.

    Readers look at public bytes alone, so that whether they complain depends on no secret.
    """
    try:
        return read(*args, **kwargs)
    except ValueError as error:
        raise ProtocolError(f"the other side sent what no party of this protocol sends: {error}") from None
