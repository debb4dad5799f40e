"""The byte pipe under a channel. A link moves bytes in order, both ways at once; it knows no frames and counts nothing.

A send never waits for the other side to receive, because two parties that both send a large message first would wait
for each other for ever. What the network does not take at once waits in an `Outbox`, up to `MAX_WAITING_BYTES`.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from aero.wire.errors import PeerSilentError, WireError

DEFAULT_TIMEOUT = 60.0
"""Seconds of silence after which the other side counts as gone."""
BEAT = 5.0
"""Seconds between signs of life of a party that has nothing to send: less than what middleboxes allow a connection."""
DEAD = 30.0
"""Seconds without a byte, signs of life among them, after which a party that gives them counts as gone."""
SLOWEST_BYTES_PER_SECOND = 125_000
"""One Mbit/s. Large messages get this much more time than the timeout, and a trickle cannot hold a party for ever."""
ABRUPT_PATIENCE = 1.0
"""Seconds spent on parting words with the other side once a session has failed."""
MAX_WAITING_BYTES = 2 << 30
"""Bytes that may wait to be sent before a send blocks (two frames of the default limit)."""

Item = TypeVar("Item")


def allowance(timeout: float, nbytes: int) -> float:
    """Seconds that moving `nbytes` may take in all."""
    return timeout + nbytes / SLOWEST_BYTES_PER_SECOND


class Link(ABC):
    """An ordered, reliable, two-way byte pipe to the other party. One thread may send while another receives."""

    def __init__(self, timeout: float = DEFAULT_TIMEOUT) -> None:
        if not 0 < timeout < float("inf"):
            raise ValueError(f"the timeout is {timeout} seconds; give a positive, finite number")
        self.timeout = timeout

    @property
    def hosts(self) -> tuple[str, str] | None:
        """The addresses of this machine and of the other party's, as connected; None without a network."""
        return None

    @abstractmethod
    def send(self, buffers: Sequence[memoryview]) -> None:
        """Send the bytes of `buffers`, in order. They are the caller's again when this returns.

        Raises a `WireError` if the connection has ended, or if the other side takes nothing for `timeout` seconds
        while `MAX_WAITING_BYTES` wait."""

    @abstractmethod
    def receive_into(self, view: memoryview, deadline: float) -> None:
        """Fill `view` with the next bytes. Raises `PeerSilentError` after `deadline` (on `time.monotonic()`'s clock)
        and `PeerVanishedError` if the connection ends before `view` is full."""

    @property
    def arrived(self) -> bool:
        """Whether something can be received without waiting, or nobody can tell."""
        return True

    @abstractmethod
    def close(self, *, abruptly: bool = False) -> None:
        """Send what still waits, then end the connection; `abruptly` spends `ABRUPT_PATIENCE` on it at most.
        Never raises; what could not be sent is dropped."""


class Outbox(Generic[Item]):
    """What waits to be written, in order, by a thread that lives only while something waits.

    `write(item)` runs in that thread and may block; if it raises a `WireError` the rest is dropped, and the error is
    raised to the next caller."""

    def __init__(self, write: Callable[[Item], None], timeout: float) -> None:
        self._write = write
        self._timeout = timeout
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Item, int]] = deque()
        self._waiting_bytes = 0
        self._thread: threading.Thread | None = None
        self._failure: WireError | None = None

    @property
    def empty(self) -> bool:
        """True if all was written. Raises the writer's failure, if it failed."""
        with self._changed:
            self._raise_failure()
            return self._thread is None

    def put(self, item: Item, nbytes: int) -> None:
        """Add `item`, which stands for `nbytes`, and return at once unless `MAX_WAITING_BYTES` wait already."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._failure or self._fits(nbytes), self._timeout):
                raise PeerSilentError(
                    f"the other side took nothing for {self._timeout:g} s while {self._waiting_bytes} bytes waited"
                )
            self._raise_failure()
            self._waiting.append((item, nbytes))
            self._waiting_bytes += nbytes
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="aero-wire-outbox", daemon=True)
                self._thread.start()

    def flush(self, *, abruptly: bool = False) -> None:
        """Wait until all is written or the writer failed; for `ABRUPT_PATIENCE` at most, or as `allowance` says."""
        with self._changed:
            patience = ABRUPT_PATIENCE if abruptly else allowance(self._timeout, self._waiting_bytes)
            self._changed.wait_for(lambda: self._thread is None, patience)

    def fail(self, failure: WireError) -> None:
        """Drop what waits and refuse more; the thread ends when the write under way does."""
        with self._changed:
            self._failure = self._failure or failure
            self._waiting.clear()
            self._waiting_bytes = 0
            self._changed.notify_all()

    def join(self) -> None:
        """Wait for the thread to end, if there is one."""
        thread = self._thread
        if thread is not None:
            thread.join()

    def _fits(self, nbytes: int) -> bool:
        return self._waiting_bytes == 0 or self._waiting_bytes + nbytes <= MAX_WAITING_BYTES

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._waiting:
                    self._thread = None
                    self._changed.notify_all()
                    return
                item, nbytes = self._waiting[0]
            try:
                self._write(item)
            except WireError as failure:
                self.fail(failure)
                continue
            with self._changed:
                if self._waiting:
                    self._waiting.popleft()
                    self._waiting_bytes -= nbytes
                self._changed.notify_all()
