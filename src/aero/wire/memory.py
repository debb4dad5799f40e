"""Two channels joined in memory, for two parties in two threads of one process."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence

from aero.wire.channel import Channel
from aero.wire.errors import PeerSilentError, PeerVanishedError
from aero.wire.frame import MAX_FRAME_BYTES
from aero.wire.link import DEFAULT_TIMEOUT, Link
from aero.wire.network import LOOPBACK, Network, shape


def channel_pair(
    *, timeout: float = DEFAULT_TIMEOUT, network: Network = LOOPBACK, max_frame_bytes: int = MAX_FRAME_BYTES
) -> tuple[Channel, Channel]:
    """Two channels, each the other's peer. Give one to each thread."""
    first, second = (
        Channel(shape(link, network), max_frame_bytes=max_frame_bytes) for link in link_pair(timeout=timeout)
    )
    return first, second


def link_pair(*, timeout: float = DEFAULT_TIMEOUT) -> tuple[MemoryLink, MemoryLink]:
    """The two links under `channel_pair`, for tests that wrap them or write raw bytes."""
    there, back = _Pipe(), _Pipe()
    return MemoryLink(there, back, timeout), MemoryLink(back, there, timeout)


class _Pipe:
    """One direction: a queue of chunks that one thread fills and another empties."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._chunks: deque[memoryview] = deque()
        self._closed = False

    def write(self, chunks: Sequence[bytes]) -> None:
        with self._changed:
            if self._closed:
                raise PeerVanishedError("the other side has closed the connection")
            self._chunks.extend(memoryview(chunk) for chunk in chunks if chunk)
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def read_some(self, view: memoryview, deadline: float) -> int:
        with self._changed:
            if not self._changed.wait_for(lambda: self._chunks or self._closed, max(0, deadline - time.monotonic())):
                raise PeerSilentError("the other side sent nothing within the timeout")
            if not self._chunks:
                raise PeerVanishedError("the other side closed the connection without a goodbye")
            chunk = self._chunks.popleft()
            size = min(len(chunk), len(view))
            if size < len(chunk):
                self._chunks.appendleft(chunk[size:])
        view[:size] = chunk[:size]
        return size


class MemoryLink(Link):
    """One end of two pipes. Sending copies once, so that the sender may reuse its arrays, and never blocks."""

    def __init__(self, outgoing: _Pipe, incoming: _Pipe, timeout: float) -> None:
        super().__init__(timeout)
        self._outgoing = outgoing
        self._incoming = incoming

    def send(self, buffers: Sequence[memoryview]) -> None:
        self._outgoing.write([bytes(buffer) for buffer in buffers])

    def receive_into(self, view: memoryview, deadline: float) -> None:
        while len(view):
            view = view[self._incoming.read_some(view, deadline) :]

    def close(self, *, abruptly: bool = False) -> None:
        self._outgoing.close()
        self._incoming.close()
