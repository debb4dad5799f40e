"""A channel between two parties: typed messages in order, and the one place where traffic is counted.

    with tcp.connect("localhost", 7700, identity) as channel:
        channel.send_control({"context": 128})
        with channel.op("h0.softmax"):
            channel.send(masked)                         # one message, one array
            theirs = channel.recv((12, 128), np.uint64)  # the receiver says what it expects

The receiver states dtype and shape, and whatever differs is refused while only the header and the description have been
read: nothing is ever allocated because the other side claims a size. The first failure ends the channel. The other side
is told why in one of six words (`frame.Reason`), and every later use raises the same failure again.

A party may compute for minutes between two messages. Meanwhile a thread gives signs of life, which are no messages:
they lengthen no timeout, and who gives none is known to be gone long before it.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from aero.wire import frame
from aero.wire.certificates import Peer
from aero.wire.errors import (
    PeerClosedError,
    PeerSilentError,
    PeerVanishedError,
    ProtocolError,
    StoppingError,
    TimeUpError,
    WireError,
)
from aero.wire.frame import ArraySpec, Header, Kind, Reason
from aero.wire.link import ABRUPT_PATIENCE, Link, allowance
from aero.wire.traffic import UNLABELLED, Traffic

Array = NDArray[Any]
Sendable = Array | bytes | bytearray | memoryview


class Channel:
    """Messages to and from the other party over a `Link`. For one thread at a time; both parties must use the same
    sequence of messages, as the two sides of one protocol do.

    Arrays are uint8, uint16, uint32, uint64, int64 or float64, of up to 8 dimensions; control messages are JSON
    objects. All methods raise the errors of `aero.wire.errors`. `max_frame_bytes` limits what is sent and expected;
    `beat` is how many seconds pass between signs of life, None for none.
    """

    def __init__(
        self,
        link: Link,
        *,
        max_frame_bytes: int = frame.MAX_FRAME_BYTES,
        beat: float | None = None,
        peer: Peer | None = None,
    ) -> None:
        if max_frame_bytes < frame.MAX_CONTROL_BYTES:
            raise ValueError(f"max_frame_bytes is {max_frame_bytes}; give at least {frame.MAX_CONTROL_BYTES}")
        self._link = link
        self.peer = peer
        """Who is at the other end, as TLS has shown; None without it."""
        self._max_frame_bytes = max_frame_bytes
        self._labels = [UNLABELLED]
        self._tallies: dict[str, _Tally] = {}
        self._sent = _Direction()
        self._received = _Direction()
        self._ended: WireError | None = None
        self._waited = 0.0
        self.on_send: Callable[[str, int, memoryview], None] | None = None
        """Called with the label, the size in bytes, and the largest array's bytes, of each message of arrays that is
        sent; they are valid only during the call. For showing what the other party gets."""
        self._sending = threading.Lock()
        self._over = threading.Event()
        if beat is not None:
            arguments = weakref.ref(self), self._over, beat  # one that nobody holds any more gives no sign of life
            threading.Thread(target=_give_signs_of_life, args=arguments, name="aero-wire-beat", daemon=True).start()

    # Messages

    def send(self, *arrays: Sendable) -> None:
        """Send one message of one or several arrays (bytes count as uint8). Returns without waiting for the receiver;
        the arrays may be changed again afterwards. Raises ValueError, before sending, for what a frame cannot carry."""
        blocks = [_as_block(array) for array in arrays]
        description = frame.encode_specs([ArraySpec.of(block.shape, block.dtype) for block in blocks])
        data = [_as_bytes(block) for block in blocks]
        self._send(Kind.ARRAYS, description, data)
        if self.on_send is not None:
            self.on_send(self._labels[-1], sum(map(len, data)), max(data, key=len, default=memoryview(b"")))

    def recv(self, shape: int | Sequence[int], dtype: DTypeLike = np.uint64) -> Array:
        """Receive a message of one array of exactly this shape and dtype."""
        return self.recv_many((shape, dtype))[0]

    def recv_many(self, *expected: tuple[int | Sequence[int], DTypeLike]) -> tuple[Array, ...]:
        """Receive one message of several arrays, given as `(shape, dtype)` each, in order."""
        specs = [ArraySpec.of(shape, dtype) for shape, dtype in expected]
        description = frame.encode_specs(specs)
        body_size = len(description) + sum(spec.nbytes for spec in specs)
        self._check_size(body_size)
        with self._receiving(Kind.ARRAYS, body_size) as (header, deadline):
            if header.description_size > frame.MAX_DESCRIPTION_BYTES:
                raise ProtocolError("malformed frame: its description is too long")
            arrived = bytearray(header.description_size)
            self._link.receive_into(memoryview(arrived), deadline)
            if arrived != description:
                wrong = frame.decode_specs(bytes(arrived))
                raise ProtocolError(f"expected {_names(specs)}, the other side sent {_names(wrong)}")
            if header.body_size != body_size:
                raise ProtocolError(f"malformed frame: {header.body_size} bytes announced for {_names(specs)}")
            arrays = tuple(np.empty(spec.shape, spec.dtype) for spec in specs)
            for array in arrays:
                self._link.receive_into(_as_bytes(array), deadline)
        return arrays

    def exchange(self, array: Array) -> Array:
        """Send an array and receive the other side's of the same shape and dtype, in one round."""
        self.send(array)
        return self.recv(array.shape, array.dtype)

    def send_control(self, message: dict[str, Any]) -> None:
        """Send one JSON object, of at most `frame.MAX_CONTROL_BYTES`; for agreements, not for data."""
        self._send(Kind.CONTROL, b"", [memoryview(frame.encode_control(message))])

    def recv_control(self, patience: float = 0.0) -> dict[str, Any]:
        """Receive one JSON object. What is in it is the other side's word: check every field.

        patience: seconds that it may take to come, where they are more than the link's timeout."""
        with self._receiving(Kind.CONTROL, frame.MAX_CONTROL_BYTES, patience) as (header, deadline):
            if header.body_size > frame.MAX_CONTROL_BYTES:
                raise ProtocolError(f"a control message of {header.body_size} bytes exceeds {frame.MAX_CONTROL_BYTES}")
            data = bytearray(header.body_size)
            self._link.receive_into(memoryview(data), deadline)
            return frame.decode_control(bytes(data))

    @property
    def hosts(self) -> tuple[str, str] | None:
        """The addresses of this machine and of the other party's; None for a channel in memory."""
        return self._link.hosts

    @property
    def arrived(self) -> bool:
        """Whether there is something to read already, or nobody can tell: no time for other work."""
        return self.ended or self._link.arrived

    @property
    def ended(self) -> bool:
        """Whether this channel was closed or has failed."""
        return self._ended is not None

    # Counting

    @contextmanager
    def op(self, label: str) -> Iterator[None]:
        """Count the traffic inside under `label`; ops nest, and the labels are joined: "h0.softmax/exp"."""
        if not label:
            raise ValueError("an op needs a label")
        outer = self._labels[-1]
        self._labels.append(label if outer is UNLABELLED else f"{outer}/{label}")
        try:
            yield
        finally:
            self._labels.pop()

    @property
    def traffic(self) -> Traffic:
        """What was counted so far; subtract two snapshots to measure what happened in between."""
        return Traffic.total({label: tally.snapshot() for label, tally in self._tallies.items()})

    @property
    def seconds_waited(self) -> float:
        """How long this party has waited for messages so far, arrival of their bytes included."""
        return self._waited

    # The end

    def close(self) -> None:
        """Say goodbye, send what still waits, and end the connection. Does nothing on a channel that has ended."""
        if self._ended is None:
            self._ended = WireError("this channel is closed; open a new one")
            self._part(Reason.FINISHED)

    def __enter__(self) -> Channel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self._fail(error)

    # Inside

    def _send(self, kind: Kind, description: bytes, data: list[memoryview]) -> None:
        self._raise_ended()
        body_size = len(description) + sum(len(view) for view in data)
        self._check_size(body_size)
        # The first message of a new round is the first after having received in the last one.
        header = Header(kind, len(description), self._sent.messages, body_size, self._received.round + 1)
        try:
            with self._sending:
                self._link.send([memoryview(header.pack() + description), *data])
        except PeerVanishedError as error:
            last_word = self._find_goodbye() or error
            self._fail(last_word)
            raise last_word from None
        except BaseException as error:
            self._fail(error)
            raise
        self._count(header, self._sent)

    @contextmanager
    def _receiving(self, kind: Kind, body_size: int, patience: float = 0.0) -> Iterator[tuple[Header, float]]:
        """Receive and check the header of a message whose body the caller then reads; count it when all went well."""
        self._raise_ended()
        started = time.monotonic()
        deadline = started + allowance(max(self._link.timeout, patience), body_size)
        try:
            header = self._receive_header(deadline)
            if header.kind is Kind.GOODBYE:
                raise self._goodbye(header, deadline)
            if header.kind is not kind:
                raise ProtocolError(f"expected {kind.name.lower()}, the other side sent {header.kind.name.lower()}")
            yield header, deadline
        except BaseException as error:
            self._fail(error)
            raise
        self._waited += time.monotonic() - started
        self._count(header, self._received)

    def _receive_header(self, deadline: float) -> Header:
        data = bytearray(frame.HEADER_SIZE)
        self._link.receive_into(memoryview(data), deadline)
        while data == frame.ALIVE:
            if time.monotonic() > deadline:
                raise PeerSilentError("the other side gave signs of life, and nothing else, within the timeout")
            self._link.receive_into(memoryview(data), deadline)
        header = Header.unpack(data)
        if header.sequence != self._received.messages:
            raise ProtocolError(
                f"message {header.sequence} arrived where message {self._received.messages} was due: lost or replayed"
            )
        # The other side can at most answer our latest message, and its rounds never go back.
        if not max(1, self._received.round) <= header.round <= self._sent.round + 1:
            raise ProtocolError(f"malformed frame: round {header.round} is impossible here")
        return header

    def _goodbye(self, header: Header, deadline: float) -> WireError:
        reason = bytearray(1)
        if header.body_size != 1:
            raise ProtocolError("malformed frame: a goodbye without a reason")
        self._link.receive_into(memoryview(reason), deadline)
        if reason[0] not in tuple(Reason):
            raise ProtocolError(f"malformed frame: unknown reason {reason[0]} for a goodbye")
        why = Reason(reason[0])
        return PeerClosedError(f"the other side ended the session: {why}", why)

    def _find_goodbye(self) -> WireError | None:
        """The goodbye of a party that no longer takes messages, if it left one behind the messages we did not read."""
        deadline = time.monotonic() + ABRUPT_PATIENCE
        try:
            header = self._receive_header(deadline)
            while header.kind is not Kind.GOODBYE:
                for start in range(0, header.body_size, 1 << 16):
                    skipped = bytearray(min(1 << 16, header.body_size - start))
                    self._link.receive_into(memoryview(skipped), deadline)
                self._received.advance(header.round)
                header = self._receive_header(deadline)
            return self._goodbye(header, deadline)
        except WireError:
            return None

    def _count(self, header: Header, direction: _Direction) -> None:
        before = max(self._sent.round, self._received.round)
        direction.advance(header.round)
        tally = self._tallies.get(self._labels[-1]) or self._tallies.setdefault(self._labels[-1], _Tally())
        tally.messages += 1
        tally.rounds += max(before, header.round) - before
        size = frame.HEADER_SIZE + header.body_size
        if direction is self._sent:
            tally.bytes_sent += size
        else:
            tally.bytes_received += size

    def _check_size(self, body_size: int) -> None:
        if body_size > self._max_frame_bytes:
            raise ValueError(
                f"a message of {body_size} bytes exceeds the limit of {self._max_frame_bytes}; send it in parts"
            )

    def _raise_ended(self) -> None:
        if self._ended is not None:
            raise self._ended

    def _fail(self, error: BaseException) -> None:
        if self._ended is not None:
            return
        if isinstance(error, WireError):
            self._ended = error
        else:
            self._ended = WireError(f"this channel failed earlier: {type(error).__name__}")
        if isinstance(error, ProtocolError):
            reason = Reason.UNEXPECTED_MESSAGE
        elif isinstance(error, PeerSilentError):
            reason = Reason.SILENCE
        elif isinstance(error, TimeUpError):
            reason = Reason.TIME_UP
        elif isinstance(error, StoppingError):
            reason = Reason.STOPPING
        else:
            reason = Reason.FAILURE
        self._part(reason)

    def _part(self, reason: Reason) -> None:
        self._over.set()
        goodbye = Header(Kind.GOODBYE, 0, self._sent.messages, 1, self._received.round + 1)
        try:
            with self._sending:
                self._link.send([memoryview(goodbye.pack() + bytes([reason]))])
        except WireError:
            pass  # The other side has gone already; there is nobody left to tell.
        finally:
            self._link.close(abruptly=reason is not Reason.FINISHED)

    def _is_alive(self) -> None:
        with self._sending:
            if not self._over.is_set():
                self._link.send([memoryview(frame.ALIVE)])


def _give_signs_of_life(channel: weakref.ref[Channel], over: threading.Event, beat: float) -> None:
    while not over.wait(beat):
        if (alive := channel()) is None:
            return
        try:
            alive._is_alive()
        except WireError:
            return  # whoever uses the channel learns it
        del alive


@dataclass
class _Direction:
    """How far one direction of a channel has come."""

    messages: int = 0
    round: int = 0

    def advance(self, round_: int) -> None:
        self.messages += 1
        self.round = round_


@dataclass
class _Tally:
    """Running counts of one op; fields as in `Traffic`."""

    bytes_sent: int = 0
    bytes_received: int = 0
    messages: int = 0
    rounds: int = 0

    def snapshot(self) -> Traffic:
        return Traffic(self.bytes_sent, self.bytes_received, self.messages, self.rounds)


def _as_block(array: Sendable) -> Array:
    """The array as the wire has it: C-contiguous and little-endian. Copies only if it is not so already."""
    if isinstance(array, (bytes, bytearray, memoryview)):
        return np.frombuffer(array, np.uint8)
    return np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")


def _as_bytes(block: Array) -> memoryview:
    return block.reshape(-1).view(np.uint8).data


def _names(specs: Sequence[ArraySpec]) -> str:
    return ", ".join(str(spec) for spec in specs)
