"""One process for each client: the parent accepts and supervises, a child serves one session and ends with it.

    parent                                      child, one for each connection
    accepts; forks           ------------->     TLS, the client proves who it is
                             <- known --        its name
    is there a place?        -- place ->        greeting: welcome, or busy
                             <- begun --        the session
    writes what it is told   <- told ---
                             <- ended --        exits

As in sshd, everything that reads what a stranger sent runs in a process of its own, so that no connection can stop,
block or read another, and what a session held goes with it. The parent has one thread, handles no client's bytes, and
never waits for anybody. Children are forked and not started anew, because the model is then in memory once.

What does not yet know whom it serves is bounded in number, in all and for each address. Beyond that the oldest
connection of the address that has the most is ended, so that silence keeps nobody out: who means to talk does so within
milliseconds.
"""

from __future__ import annotations

import gc
import ipaddress
import json
import logging
import os
import queue
import select
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from aero.wire import Channel, PeerAbsentError
from aero.wire.certificates import Peer
from aero.wire.tcp import Arrival, Listener

log = logging.getLogger(__name__)

Tell = Callable[[Mapping[str, Any]], None]
"""Takes what a child tells its parent: what JSON can carry."""
_MAX_MESSAGE = 1 << 20
_GRACE = 5.0  # seconds that a child has beyond its own deadline for TLS and the greeting
_STOP = signal.SIGTERM, signal.SIGINT


@dataclass(frozen=True)
class Limits:
    """sessions: at the same time. handshakes: connections whose client has not proved who it is, in all and
    `handshakes_each` for each address (of IPv6 the first 64 bits). drain: seconds that sessions have to finish their
    steps when the server is stopped."""

    sessions: int = 4
    handshakes: int = 64
    handshakes_each: int = 16
    drain: float = 60.0

    def __post_init__(self) -> None:
        if not 1 <= self.sessions <= 1000:
            raise ValueError(f"{self.sessions} sessions at the same time; give 1 to 1000")
        if not 1 <= self.handshakes_each <= self.handshakes:
            raise ValueError(f"{self.handshakes_each} handshakes for each address; give 1 to {self.handshakes}")
        if not 0 <= self.drain < float("inf"):
            raise ValueError(f"{self.drain} seconds to finish; give 0 or more")


@dataclass
class _Child:
    """A process that serves one connection, as the parent knows it."""

    pid: int
    where: str
    network: str
    """Whose connections are counted together."""
    since: float
    ear: socket.socket
    heard: bytearray = field(default_factory=bytearray)
    name: str | None = None
    """The client's, once it is known; None without TLS."""
    has_place: bool = False
    session: int = 0
    """The number of its session, from 1 on; 0 before it has begun."""
    failure: str | None = None
    ended: bool = False

    @property
    def who(self) -> str:
        return self.where if self.name is None else f"{self.name} at {self.where}"


class Supervisor:
    """Serves whoever connects to `listener`, each in a process of its own.

    serve: called in the child, with a channel to the client and what takes what the parent should be told; raises
    ConnectionError or ValueError for a session that ends too early. stop: called in the child, by a signal, when the
    session should end after the step at hand. on_begun(session, who), on_told(session, what), on_ended(session,
    failure or None) and on_refused(who, why) are called in the parent.
    """

    def __init__(
        self,
        listener: Listener,
        serve: Callable[[Channel, Tell], None],
        *,
        stop: Callable[[], None],
        limits: Limits,
        on_begun: Callable[[int, str], None],
        on_told: Callable[[int, Mapping[str, Any]], None],
        on_ended: Callable[[int, str | None], None],
        on_refused: Callable[[str, str], None],
    ) -> None:
        self._listener, self._serve, self._stop_step, self._limits = listener, serve, stop, limits
        self._on_begun, self._on_told, self._on_ended, self._on_refused = on_begun, on_told, on_ended, on_refused
        self._children: dict[int, _Child] = {}  # by the file descriptor of its ear
        self._begun = 0
        self._stops = 0
        self._hear_signals, self._signals = socket.socketpair()

    def run(self, *, once: bool = False, wait: float | None = None) -> None:
        """Serve until SIGTERM or SIGINT: then every session ends after its step, its client is told, and this returns.
        A second signal ends this process and its children at once.

        once: end after one session, and raise ConnectionError where it failed. wait: PeerAbsentError after so many
        seconds without a session. For the main thread, in a process whose other threads hold no locks.
        """
        before = {number: signal.signal(number, self._on_signal) for number in _STOP}
        for end in (self._hear_signals, self._signals):
            end.setblocking(False)
        wakeup = signal.set_wakeup_fd(self._signals.fileno(), warn_on_full_buffer=False)
        gc.collect()
        gc.freeze()  # what there is now stays where it is, in pages that all children share
        try:
            self._loop(once, wait)
        finally:
            self._kill_all()
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            gc.unfreeze()

    # The parent

    def _on_signal(self, *_: object) -> None:
        self._stops += 1
        if self._stops > 1:
            for child in self._children.values():
                os.kill(child.pid, signal.SIGKILL)
            os._exit(1)

    def _loop(self, once: bool, wait: float | None) -> None:
        idle_since = time.monotonic()
        drained: float | None = None
        while True:
            now = time.monotonic()
            if self._stops and drained is None:
                self._listener.close()
                drained = now + self._limits.drain
                for child in self._children.values():
                    os.kill(child.pid, signal.SIGTERM)
            if drained is not None and (not self._children or now > drained):
                return
            served = any(child.has_place for child in self._children.values())
            if served:
                idle_since = now
            elif wait is not None and now > idle_since + wait and drained is None:
                raise PeerAbsentError(f"no client came within {wait:g} s")
            self._end_overdue(now)
            poll = select.poll()
            poll.register(self._hear_signals, select.POLLIN)
            if drained is None and not (once and served):
                poll.register(self._listener, select.POLLIN)
            for number in self._children:
                poll.register(number, select.POLLIN)
            for number, _ in poll.poll(1000):
                if number == self._hear_signals.fileno():
                    with suppress(BlockingIOError):
                        self._hear_signals.recv(4096)
                elif number in self._children:
                    child = self._children[number]
                    self._hear(child)
                    if child.ended and once and child.session:
                        if child.failure:
                            raise ConnectionError(child.failure)
                        return
                elif not self._stops:
                    self._take()

    def _take(self) -> None:
        """A connection, and a child for it."""
        try:
            arrival = self._listener.arrival(0)
        except PeerAbsentError as error:
            log.info("%s", error)
            time.sleep(0.05)  # out of file descriptors, say: give those that there are a moment to end
            return
        with arrival.socket:
            self._make_room(_network(arrival.host))
            sys.stdout.flush()  # or both processes would write what waits
            try:
                ear, mouth = socket.socketpair()
                signal.pthread_sigmask(signal.SIG_BLOCK, _STOP)  # the child takes none by its parent's handler
                pid = os.fork()
                if pid == 0:
                    self._child(arrival, mouth, ear)
            except OSError as error:
                self._on_refused(arrival.where, f"no process for it: {error.strerror}")
                return
            finally:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP)
            mouth.close()
            ear.setblocking(False)
        self._children[ear.fileno()] = _Child(pid, arrival.where, _network(arrival.host), arrival.since, ear)

    def _make_room(self, network: str) -> None:
        """End the oldest handshakes, of the network that has the most, until one more is within the limits."""
        while True:
            strangers = [child for child in self._children.values() if not child.has_place]
            counts = Counter(child.network for child in strangers)
            if counts[network] >= self._limits.handshakes_each:
                fullest = network
            elif len(strangers) >= self._limits.handshakes:
                fullest = counts.most_common(1)[0][0]
            else:
                return
            oldest = min((child for child in strangers if child.network == fullest), key=lambda child: child.since)
            self._end(oldest, "too many connections that have not said who they are")

    def _end_overdue(self, now: float) -> None:
        for child in list(self._children.values()):
            if not child.session and now > child.since + self._listener.setup_timeout + _GRACE:
                self._end(child, "it has not finished its greeting")

    def _hear(self, child: _Child) -> None:
        """What a child says, and its end."""
        try:
            data = child.ear.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._bury(child)
            return
        child.heard += data
        try:
            while (end := child.heard.find(b"\n")) >= 0:
                line = bytes(child.heard[:end])
                del child.heard[: end + 1]
                self._understand(child, json.loads(line))
            if len(child.heard) > _MAX_MESSAGE:
                raise ValueError("it said too much at once")
        except (ValueError, KeyError, OSError) as error:
            log.warning("the process of %s: %s", child.who, error)
            self._end(child, f"its process failed: {error}")

    def _understand(self, child: _Child, message: Mapping[str, Any]) -> None:
        if message["say"] == "known":
            child.name = message["name"]
            others = sum(other.has_place for other in self._children.values())
            child.has_place = others < self._limits.sessions
            child.ear.send(_line({"sessions": None if child.has_place else others}))
        elif message["say"] == "begun":
            self._begun += 1
            child.session = self._begun
            self._on_begun(child.session, child.who)
        elif message["say"] == "told":
            self._on_told(child.session, message["what"])
        elif message["say"] == "ended":
            child.failure, child.ended = message["failure"], True
            self._bury(child)  # which is on its way out; its place is free

    def _end(self, child: _Child, why: str) -> None:
        child.failure, child.ended = why, True
        self._bury(child)

    def _bury(self, child: _Child) -> None:
        if self._children.pop(child.ear.fileno(), None) is None:
            return
        child.ear.close()
        os.kill(child.pid, signal.SIGKILL)  # it has ended, or has nothing left to do
        _, status = os.waitpid(child.pid, 0)
        if not child.ended:
            how = f"by signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"with {os.WEXITSTATUS(status)}"
            child.failure, child.ended = f"its process ended {how}", True
        if child.session:
            self._on_ended(child.session, child.failure)
        elif child.failure:
            self._on_refused(child.who, child.failure)

    def _kill_all(self) -> None:
        for child in list(self._children.values()):
            self._end(child, "the server was stopped")

    # The child

    def _child(self, arrival: Arrival, mouth: socket.socket, ear: socket.socket) -> None:
        """Serve one connection and exit. Never returns."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # before a session there is nothing to finish
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal, to all: the parent passes on what to do
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP)
            self._listener.close()
            for other in (ear, self._hear_signals, self._signals, *(child.ear for child in self._children.values())):
                other.close()
            failure = self._session(arrival, mouth)
            mouth.sendall(_line({"say": "ended", "failure": failure}))
            code = 0
        except BaseException:
            log.exception("the process of %s failed", arrival.where)
        finally:
            os._exit(code)

    def _session(self, arrival: Arrival, mouth: socket.socket) -> str | None:
        """Why it ended too early, or None."""
        answers: queue.SimpleQueue[Mapping[str, Any]] = queue.SimpleQueue()
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOP)  # in that thread: a signal is to wake this one
        threading.Thread(target=_listen, args=(mouth, answers), daemon=True).start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP)

        def tell(what: Mapping[str, Any]) -> None:
            mouth.sendall(_line({"say": "told", "what": what}))

        def sessions(peer: Peer | None) -> int | None:
            mouth.sendall(_line({"say": "known", "name": peer and peer.name}))
            taken: int | None = answers.get()["sessions"]
            return taken

        try:
            with self._listener.welcome(arrival, sessions) as channel:
                signal.signal(signal.SIGTERM, lambda *_: self._stop_step())
                mouth.sendall(_line({"say": "begun"}))
                self._serve(channel, tell)
        except (ConnectionError, ValueError) as error:
            return " ".join(str(error).split()) or type(error).__name__
        return None


def _listen(mouth: socket.socket, answers: queue.SimpleQueue[Mapping[str, Any]]) -> None:
    """What the parent answers. A child does not outlive its parent."""
    heard = b""
    with suppress(OSError):
        while data := mouth.recv(4096):
            *lines, heard = (heard + data).split(b"\n")
            for line in lines:
                answers.put(json.loads(line))
    os._exit(1)


def _line(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message, allow_nan=False).encode() + b"\n"


def _network(host: str) -> str:
    """An address; of IPv6, where one machine has as many as it likes, its first 64 bits."""
    address = ipaddress.ip_address(host.split("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is None:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return host
