"""A party's supply of random OTs, made with the other party: in both directions, as many as are asked for.

Set-up, `set_up_ots`:
1. Each: base OTs in both roles (base_ot.py), as the receiver with the bits of its own Delta.         both directions
2. Each: as the receiver of SoftSpokenOT its opening; for Ferret also the message of the first OTs.   both directions

Refill, whenever more is asked for than is ready; in both directions at the same time where both are short:
1. The ends that speak: how many OTs were used up in each direction so far, and the message of as many units as are
   needed: of Ferret from the sender of the OTs, of SoftSpokenOT from their receiver.
2. The ends that hear: compare the counts, and make the same units. Of Ferret: a challenge.
3. The ends that spoke, of Ferret: an answer, which the others check.

A refill is one round, or three with Ferret, however many OTs it makes, and Ferret's wait as seeds: reserving a whole
computation's OTs ahead, or the next one's while there is nothing else to do, costs little memory.

Random OT number i of a direction has the pads H(K, i) and H(K ^ Delta, i) (`aero.kernels.ot`): numbers count up over
the whole session and never come twice. Delta is fresh for each direction of each supply.

An OT used twice gives inputs away. So a supply cannot be copied, is refused in a forked process, after an error in a
refill or on its channel, and by a party on another channel; there is no way to put anything back.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from typing import Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

from aero.kernels.ot import receiver_pads, sender_pads
from aero.mpc.cost import ProtocolCost, computed, message
from aero.mpc.ot import ferret, softspoken
from aero.mpc.ot.base_ot import POINT_BYTES, BaseOtReceiver, BaseOtSender
from aero.mpc.ot.correlated import ANSWER_BYTES, CHALLENGE_BYTES, CorrelatedOts, Stock
from aero.mpc.ot.ferret import FerretReceiver, FerretSender
from aero.mpc.ot.random_ot import Blocks, RandomOts
from aero.mpc.ot.softspoken import BASE_OTS, OPENING_BYTES, SoftSpokenReceiver, SoftSpokenSender
from aero.mpc.party import Party, Role
from aero.wire import Channel, ProtocolError

Extension = Literal["ferret", "softspoken"]

OP = "ots"
"""Under which label a channel counts set-up and refills."""

_AHEAD = 1 << 22
"""Correlated OTs of each direction, of 16 bytes, that wait at most as what they are instead of as seeds."""
_POINTS_BYTES = BASE_OTS * 2 * POINT_BYTES
_COUNTS_BYTES = 16
_FIRST = -(-ferret.SEEDS // 128) * 128
"""Correlated OTs that Ferret begins with, a multiple of what SoftSpokenOT makes."""


def set_up_ots(party: Party, extension: Extension = "ferret") -> None:
    """Make `party.ots`: both parties call this at the same point, once a session.

    `extension`, the same at both parties: "ferret", 0.78 bits an OT, or "softspoken", 31 bits an OT but no assumption
    on LPN.
    """
    if extension not in ("ferret", "softspoken"):
        raise ValueError(f"there is no OT extension {extension!r}: use 'ferret' or 'softspoken'")
    with party.channel.op(OP):
        party.ots = _set_up(party, extension)


def set_up_cost(extension: Extension = "ferret") -> ProtocolCost:
    """Of `set_up_ots`. No OTs are ready after it: the first refill is to come."""
    second = (OPENING_BYTES, softspoken.message_bytes(_FIRST)) if extension == "ferret" else (OPENING_BYTES,)
    work = {f"{extension} set-up": 1.0}
    return _both(POINT_BYTES, _POINTS_BYTES) + _both(*second) | ProtocolCost(client_work=work, server_work=work)


class SupplyModel:
    """What a supply will cost, from public numbers alone: call `reserve` and `use` as a computation would."""

    def __init__(self, extension: Extension = "ferret") -> None:
        self._extension = extension
        self._stocks = {sender: _stock(extension) for sender in Role}

    def reserve(self, from_client: int, from_server: int) -> ProtocolCost:
        """Of having so many OTs ready by sender; nothing where they are."""
        cost = ProtocolCost()
        for sender, count in zip(Role, (from_client, from_server), strict=True):
            stock = self._stocks[sender]
            units = stock.units_for(count)
            stock.add(units)
            if units:
                speaker = sender if self._extension == "ferret" else sender.other
                made = message(speaker, _COUNTS_BYTES, units * stock.unit_bytes)
                made |= computed(speaker, {f"{self._extension} speak": units})
                made |= computed(speaker.other, {f"{self._extension} hear": units})
                if stock.challenged:
                    made += message(speaker.other, CHALLENGE_BYTES) + message(speaker, ANSWER_BYTES)
                cost |= made
        return cost

    def use(self, from_client: int, from_server: int) -> None:
        """So many of those ready are used up."""
        for sender, count in zip(Role, (from_client, from_server), strict=True):
            if count > self._stocks[sender].ready:
                raise ValueError("more OTs are used than are ready: reserve them first")
            self._stocks[sender].use(count)


class OtSupply(RandomOts):
    """Random OTs over one channel. `set_up_ots` makes it; for one thread."""

    def __init__(
        self,
        party: Party,
        session: bytes,
        delta: Blocks,
        ends: dict[Role, CorrelatedOts],
        stocks: dict[Role, Stock],
    ) -> None:
        """`ends`, `stocks`: by the sender of the OTs."""
        self._role = party.role
        self._channel = party.channel
        self._session = session
        self._delta = delta
        self._ends = ends
        self._stocks = stocks
        self._speaking = next(sender for sender in Role if ends[sender].speaks)
        self._pid = os.getpid()
        self._broken = False

    def __reduce__(self) -> NoReturn:
        raise TypeError("a supply of OTs cannot be copied or pickled: they would be used twice")

    @property
    def made(self) -> int:
        """How many there were so far, of both directions."""
        return sum(stock.used + stock.ready for stock in self._stocks.values())

    def serves(self, channel: Channel) -> bool:
        return channel is self._channel

    def reserve(self, sent: int, received: int) -> None:
        self._begin(sent, received)
        self._reserve({self._role: sent, self._role.other: received})
        self._end()

    def send(self, count: int) -> Blocks:
        self._begin(count)
        out = np.empty((count, 2, 16), np.uint8)
        for part, number, blocks in self._take(self._role, count):
            sender_pads(self._session, self._role, number, self._delta, blocks, out[part])
        self._end()
        return out

    def receive(self, count: int) -> tuple[NDArray[np.uint8], Blocks]:
        self._begin(count)
        bits, out = np.empty(count, np.uint8), np.empty((count, 16), np.uint8)
        for part, number, blocks in self._take(self._role.other, count):
            receiver_pads(self._session, self._role.other, number, blocks, bits[part], out[part])
        self._end()
        return bits, out

    def work_ahead(self) -> bool:
        self._begin(0)
        did = any(end.work_ahead(min(self._stocks[sender].ready, _AHEAD)) for sender, end in self._ends.items())
        self._end()
        return did

    def send_several(self, counts: Sequence[int]) -> Blocks:
        return self.send(sum(counts))

    def receive_several(self, counts: Sequence[int]) -> tuple[NDArray[np.uint8], Blocks]:
        return self.receive(sum(counts))

    def _take(self, sender: Role, count: int) -> Iterator[tuple[slice, int, Blocks]]:
        """The next correlated OTs in pieces, so that few are in memory before they are hashed: which of the `count`
        they are, the number of the first, and the blocks."""
        stock, end = self._stocks[sender], self._ends[sender]
        if count > stock.ready:
            self._reserve({sender: count, sender.other: 0})
        first = stock.used
        stock.use(count)
        for start in range(0, count, end.at_once):
            part = slice(start, min(count, start + end.at_once))
            yield part, first + start, end.take(part.stop - start)

    def _reserve(self, counts: dict[Role, int]) -> None:
        units = {sender: stock.units_for(counts[sender]) for sender, stock in self._stocks.items()}
        if not any(units.values()):
            return
        hearing = self._speaking.other
        used = np.array([self._stocks[sender].used for sender in Role], dtype="<u8").view(np.uint8)
        with self._channel.op(OP):
            if spoken := units[self._speaking]:
                self._channel.send(used, self._ends[self._speaking].speak(spoken))
            if heard := units[hearing]:
                theirs, data = self._channel.recv_many(
                    (_COUNTS_BYTES, np.uint8), (heard * self._stocks[hearing].unit_bytes, np.uint8)
                )
                if not np.array_equal(theirs, used):
                    raise ProtocolError("the two parties have not used the same numbers of oblivious transfers")
                self._ends[hearing].hear(heard, data)
            if self._stocks[hearing].challenged:
                self._check(bool(spoken), bool(heard))
        for sender, stock in self._stocks.items():
            stock.add(units[sender])

    def _check(self, spoken: bool, heard: bool) -> None:
        """What this end heard, and the other end what this one spoke."""
        speaking, hearing = self._ends[self._speaking], self._ends[self._speaking.other]
        if heard:
            self._channel.send(hearing.challenge())
        if spoken:
            speaking.sum_up()  # while the other end hashes as well
            self._channel.send(speaking.answer(self._channel.recv(CHALLENGE_BYTES, np.uint8)))
        if heard:
            hearing.check(self._channel.recv(ANSWER_BYTES, np.uint8))

    def _begin(self, *counts: int) -> None:
        """Before anything is done. Whatever fails until `_end` leaves a supply that nobody can use."""
        if min(counts) < 0:
            raise ValueError(f"{min(counts)} OTs were asked for: a number of OTs is not negative")
        if os.getpid() != self._pid:
            raise RuntimeError("these OTs were made before a fork: set up new ones in the child process")
        if self._broken:
            raise RuntimeError(
                "this supply of OTs failed, or is in use: end the session and set up new ones in another"
            )
        if self._channel.ended:
            raise RuntimeError("the channel of these OTs has ended: set up new ones over a new channel")
        self._broken = True

    def _end(self) -> None:
        self._broken = False


def _set_up(party: Party, extension: Extension) -> OtSupply:
    role, channel = party.role, party.channel
    delta = np.frombuffer(party.stream("ot/delta").random_bytes(16), np.uint8).copy()
    delta[0] |= 1

    # 1. A batch is named after the sender of the correlated OTs, who is the receiver of the base OTs.
    base_receiver = BaseOtReceiver(party.stream("ot/base"), role.name, softspoken.base_choices(delta))
    base_sender = BaseOtSender(party.stream("ot/base"), role.other.name)
    own = (np.frombuffer(base_sender.message, np.uint8), base_receiver.points.reshape(-1))
    channel.send(*own)
    theirs = channel.recv_many((POINT_BYTES, np.uint8), (_POINTS_BYTES, np.uint8))
    transcript = own + theirs if party.is_client else theirs + own
    digest = hashlib.sha256(b"aero/ot/v1" + b"".join(part.tobytes() for part in transcript)).digest()
    session = digest[:16]
    both_keys = base_sender.keys(theirs[1].reshape(BASE_OTS, 2, POINT_BYTES), digest)
    chosen_keys = base_receiver.keys(theirs[0].tobytes(), digest)

    # 2.
    receiver = SoftSpokenReceiver(both_keys, party.stream("ot/trees"))
    stocks = {sender: _stock(extension) for sender in Role}
    if extension == "softspoken":
        opening = channel.exchange(receiver.opening)
        sender = SoftSpokenSender(delta, chosen_keys, opening)
        return OtSupply(party, session, delta, {role: sender, role.other: receiver}, stocks)
    first_message, first_m = receiver.extend(_FIRST)
    channel.send(receiver.opening, first_message)
    opening, their_first = channel.recv_many((OPENING_BYTES, np.uint8), (first_message.size, np.uint8))
    first_k = SoftSpokenSender(delta, chosen_keys, opening).extend(_FIRST, their_first)
    ends: dict[Role, CorrelatedOts] = {
        role: FerretSender(session, role, delta, first_k, party.stream("ot/trees")),
        role.other: FerretReceiver(session, role.other, first_m),
    }
    return OtSupply(party, session, delta, ends, stocks)


def _stock(extension: Extension) -> Stock:
    if extension == "ferret":
        return Stock(ferret.UNIT, ferret.UNIT_BYTES, challenged=True)
    return Stock(softspoken.UNIT, softspoken.message_bytes(softspoken.UNIT), challenged=False)


def _both(*sizes: int) -> ProtocolCost:
    return message(Role.CLIENT, *sizes) | message(Role.SERVER, *sizes)
