"""Dealt random OTs that count what is drawn of them, and protocols run on shares of values that a test knows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from aero.kernels.prg import Prg
from aero.mpc.dealer import InsecureDealtOts
from aero.mpc.fixed_point import reduce_ring
from aero.mpc.ot.random_ot import RandomOts
from aero.mpc.party import Party, Role
from aero.mpc.share import Share
from mpc.parties import run_both

SEED = b"random OTs of a test".ljust(32)


class CountingOts(RandomOts):
    def __init__(self, inner: RandomOts) -> None:
        self.inner = inner
        self.sent = self.received = 0

    def reserve(self, sent: int, received: int) -> None:
        self.inner.reserve(sent, received)

    def send(self, count: int) -> Any:
        self.sent += count
        return self.inner.send(count)

    def receive(self, count: int) -> Any:
        self.received += count
        return self.inner.receive(count)


@dataclass(eq=False)
class Counts:
    """What the channel and the OTs counted; equal to a declared cost that says the same."""

    bytes_client_to_server: int
    bytes_server_to_client: int
    messages: int
    rounds: int
    ots_from_client: int
    ots_from_server: int

    def __eq__(self, declared: object) -> bool:
        return all(getattr(declared, name) == value for name, value in vars(self).items())

    @property
    def total_bytes(self) -> int:
        return self.bytes_client_to_server + self.bytes_server_to_client


@dataclass
class Outcome:
    """results: of both parties. cost: what was counted. sent: the frames of each party."""

    results: list[Any]
    cost: Counts
    sent: list[list[bytes]]

    @property
    def xor(self) -> np.ndarray:
        """The bits that the parties share."""
        return self.results[0] ^ self.results[1]

    @property
    def total(self) -> np.ndarray:
        """The shared numbers, from 0 to 2^bits - 1."""
        a, b = self.results
        assert (a.bits, a.fraction_bits) == (b.bits, b.fraction_bits)
        return reduce_ring(a.values + b.values, a.bits)

    @property
    def signed(self) -> np.ndarray:
        up = np.uint64(64 - self.results[0].bits)
        return (self.total << up).view(np.int64) >> np.int64(up)

    @property
    def real(self) -> np.ndarray:
        return self.signed / 2.0 ** self.results[0].fraction_bits


def run_with_ots(
    program: Callable[[Party], Any],
    *,
    before: Callable[[Party], Any] | None = None,
    seeds: tuple[bytes, bytes] | None = None,
    ots_seed: bytes = SEED,
) -> Outcome:
    """Run `program` as both parties, after `before`, whose traffic does not count."""

    def run(party: Party) -> Any:
        ots = CountingOts(InsecureDealtOts(party.role, ots_seed))
        party.ots = ots
        if before is not None:
            before(party)
        party.channel.exchange(np.zeros(1))
        start, first = party.channel.traffic, (ots.sent, ots.received)
        result = program(party)
        return result, party.channel.traffic - start, (ots.sent - first[0], ots.received - first[1])

    outcome = run_both(run, seeds)
    (client, traffic, ots), (server, theirs, server_ots) = outcome.results
    assert ots == server_ots[::-1]
    assert (traffic.bytes_sent, traffic.rounds) == (theirs.bytes_received, theirs.rounds)
    cost = Counts(traffic.bytes_sent, traffic.bytes_received, traffic.messages, traffic.rounds, *ots)
    return Outcome([client, server], cost, outcome.sent)


def split(party: Party, x: np.ndarray, bits: int, fraction_bits: int = 0, seed: bytes = b"shares") -> Share:
    """This party's part of uniform shares of x, int64 or uint64; both parties know x."""
    mask = Prg(seed.ljust(16), "test/split").uniform(x.shape, bits)
    values = mask if party.role is Role.SERVER else reduce_ring(x.astype(np.int64).view(np.uint64) - mask, bits)
    return Share(values, bits, fraction_bits)


def split_bits(party: Party, x: np.ndarray, seed: bytes = b"bits") -> np.ndarray:
    """This party's part of uniform XOR shares of bits."""
    mask = Prg(seed.ljust(16), "test/split").bits(x.shape)
    return mask if party.role is Role.SERVER else x.astype(np.uint8) ^ mask
