"""One process for each client: the parent accepts and supervises, a child serves one session and ends with it.

    parent                                      child, one for each connection
    accepts; when something
    has come, forks          ------------->     TLS, the client proves who it is, the greeting
                             <- known --
    a place, or the queue    -- place ->        tells the client: wait, go, or come in
                             <- begun --        the session
    writes what it is told   <- told ---
                             -- stop -->        ends after the answer or the step at hand
                             <- ended --        exits

As in sshd, everything that reads what a stranger sent runs in a process of its own, so that no connection can stop,
block or read another, and what a session held goes with it. The parent has one thread, handles no client's bytes, and
never waits for anybody. Children are forked and not started anew, because the model is then in memory once.

SIGHUP has what is served read again. A process of its own tries that first, while the parent goes on; where it succeeds
the parent reads it, too, and who connects from then on is served by the new model.

What does not yet know whom it serves is bounded in number, in all and for each address. Beyond that the oldest
connection of the address that has the most is ended, so that silence keeps nobody out: who means to talk does so within
milliseconds. Clients speak first, so a connection on which nothing has come has no process yet: silence costs a
descriptor, and a look at a port nothing.
"""

from __future__ import annotations

import gc
import ipaddress
import json
import logging
import os
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
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Literal

from aero.engines.memory import give_back, keep_little
from aero.serve.admission import Admission
from aero.serve.metrics import ServerMetrics
from aero.serve.server import Stop
from aero.wire import (
    Channel,
    PeerAbsentError,
    PeerBusyError,
    PeerSilentError,
    PeerVanishedError,
    ProtocolError,
    RefusedByPeerError,
    StoppingError,
    UntrustedPeerError,
)
from aero.wire.link import BEAT, DEAD
from aero.wire.tcp import MAX_PLACE, Arrival, Door, Listener, Refusal

if TYPE_CHECKING:
    from aero.serve.door import Doorkeeper

log = logging.getLogger(__name__)

Tell = Callable[[Mapping[str, Any]], None]
"""Takes what a child tells its parent: what JSON can carry."""
_MAX_MESSAGE = 1 << 20
_GRACE = 5.0  # seconds that a child has beyond its own deadline for TLS and the greeting
_STEPS_SHARE = 0.25  # of the time in which a stopped server's sessions end, the part for the steps at hand alone
_NUDGE = 0.5  # seconds after which a session that is to end looks again whether it can
_RELOAD_EVERY = 1.0  # seconds between two reloads, however many signals come
_STOP = signal.SIGTERM, signal.SIGINT
_SIGNALS = *_STOP, signal.SIGHUP
_STOPPING = Refusal("being stopped; try again in a while")


@dataclass(frozen=True)
class Limits:
    """sessions: at the same time. queue: clients that wait for a place. handshakes: connections whose client has not
    proved who it is, in all and `handshakes_each` for each address (of IPv6 the first 64 bits). longest: seconds that a
    session may last; it ends after the step at hand. drain: seconds that sessions have to end when the server is
    stopped."""

    sessions: int = 4
    queue: int = 16
    handshakes: int = 64
    handshakes_each: int = 16
    longest: float = 4 * 3600.0
    drain: float = 60.0

    def __post_init__(self) -> None:
        if not 1 <= self.sessions <= 1000:
            raise ValueError(f"{self.sessions} sessions at the same time; give 1 to 1000")
        if not 0 <= self.queue <= min(1000, MAX_PLACE):
            raise ValueError(f"a queue of {self.queue} clients; give 0 to 1000")
        if not 1 <= self.handshakes_each <= self.handshakes:
            raise ValueError(f"{self.handshakes_each} handshakes for each address; give 1 to {self.handshakes}")
        if not 0 < self.longest < float("inf"):
            raise ValueError(f"sessions of at most {self.longest} seconds; give more than 0")
        if not 0 <= self.drain < float("inf"):
            raise ValueError(f"{self.drain} seconds to finish; give 0 or more")


Kind = Literal["waits", "begun", "told", "ended", "refused", "reloaded"]


@dataclass(frozen=True)
class Event:
    """What has happened with a connection.

    kind: it waits (what: place), a session has begun, told something, or ended (what: failure or None, seconds), or it
    came to nothing (what: why, and reason: one of `metrics.REASONS`); or, of no connection, a reload (what: failure or
    None). session: its number, from 1 on; 0 before it has begun. client: its name, where it has proved one.
    """

    kind: Kind
    where: str
    client: str | None
    session: int
    what: Mapping[str, Any]

    @property
    def who(self) -> str:
        return self.where if self.client is None else f"{self.client} at {self.where}"


class _State(Enum):
    STRANGER = auto()
    """It has not proved who it is."""
    WAITING = auto()
    INSIDE = auto()
    LEAVING = auto()
    """It has been turned away."""


@dataclass(eq=False)
class _Child:
    """A process that serves one connection, as the parent knows it."""

    pid: int
    where: str
    network: str
    """Whose connections are counted together."""
    since: float
    """When it came, was given a place, or began its session."""
    ear: socket.socket
    heard: bytearray = field(default_factory=bytearray)
    state: _State = _State.STRANGER
    client: str | None = None
    session: int = 0
    stopping: Stop | None = None
    failure: str | None = None
    reason: str = "failed"
    ended: bool = False


class Supervisor:
    """Serves whoever connects to `listener`, each in a process of its own.

    serve: called in the child, with a channel to the client and what takes what the parent should be told; raises
    ConnectionError or ValueError for a session that ends too early. stop: called in the child's main thread, by a
    signal, when the session should end, and again until it has. reload: reads again what is served, for SIGHUP; called
    in a process that is then thrown away, and where it raises nothing there, in the parent, which goes on as before
    where it raises ValueError or OSError. on_event: called in the parent. metrics: what is told and asked there.
    doorkeeper: says of clients that have proved who they are whether they may come in.
    """

    def __init__(
        self,
        listener: Listener,
        serve: Callable[[Channel, Tell], None],
        *,
        stop: Callable[[Stop], None],
        limits: Limits,
        on_event: Callable[[Event], None],
        reload: Callable[[], None] = lambda: None,
        metrics: ServerMetrics | None = None,
        doorkeeper: Doorkeeper | None = None,
    ) -> None:
        self._listener, self._serve, self._stop_session, self._limits = listener, serve, stop, limits
        self._on_event, self._reload, self._metrics = on_event, reload, metrics
        self._doorkeeper = doorkeeper
        self._hangups, self._reloaded = 0, -_RELOAD_EVERY
        self._trial: _Child | None = None
        self._at_terminal = os.isatty(0)
        self._children: dict[int, _Child] = {}  # by the file descriptor of its ear
        self._silent: dict[int, Arrival] = {}  # by its file descriptor: who has said nothing yet
        self._admission: Admission[_Child] = Admission(
            limits.sessions, limits.queue, *([] if doorkeeper is None else [doorkeeper.objection])
        )
        self._begun = 0
        self._stops = 0
        self._hear_signals, self._signals = socket.socketpair()

    def run(self, *, once: bool = False, wait: float | None = None) -> None:
        """Serve until SIGTERM or SIGINT: then every session ends after the answer at hand, or, when the time for that
        is over, after its step; its client is told, and this returns. A second signal ends this process and its
        children at once.

        once: end after one session, and raise ConnectionError where it failed. wait: PeerAbsentError after so many
        seconds without a session. For the main thread, in a process whose other threads hold no locks.
        """
        before = {number: signal.signal(number, self._on_signal) for number in _STOP}
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._on_hangup)
        for end in (self._hear_signals, self._signals):
            end.setblocking(False)
        wakeup = signal.set_wakeup_fd(self._signals.fileno(), warn_on_full_buffer=False)
        gc.collect()
        gc.freeze()  # what there is now stays where it is, in pages that all children share
        if self._metrics is not None:
            self._metrics.say(self._status())
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
                with suppress(ProcessLookupError, ChildProcessError):  # it may have been on its way out already
                    os.kill(child.pid, signal.SIGKILL)
                    os.waitpid(child.pid, 0)
            os._exit(1)

    def _on_hangup(self, *_: object) -> None:
        if self._at_terminal and not os.isatty(0):  # it was closed, and nobody asks for a reload
            self._stops = max(self._stops, 1)
        self._hangups += 1

    def _loop(self, once: bool, wait: float | None) -> None:
        idle_since = time.monotonic()
        drained: float | None = None
        while True:
            now = time.monotonic()
            if self._stops and drained is None:
                self._listener.close()
                drained = now + self._limits.drain
                self._admission.close(_STOPPING)
                self._tell_news()
                self._stop_all(Stop.AFTER_ANSWER)
            if drained is not None and (not self._children or now > drained):
                return
            if drained is not None and now > drained - self._limits.drain * _STEPS_SHARE:
                self._stop_all(Stop.AFTER_STEP)
            served = self._admission.inside > 0
            if served:
                idle_since = now
            elif wait is not None and now > idle_since + wait and drained is None:
                raise PeerAbsentError(f"no client came within {wait:g} s")
            self._end_overdue(now)
            if self._hangups and self._trial is None and drained is None and now > self._reloaded + _RELOAD_EVERY:
                self._try_reload()
            poll = select.poll()
            if self._metrics is not None:
                poll.register(self._metrics, select.POLLIN)
            if self._trial is not None:
                poll.register(self._trial.ear, select.POLLIN)
            poll.register(self._hear_signals, select.POLLIN)
            if drained is None and not (once and served):
                poll.register(self._listener, select.POLLIN)
            for number in (*self._children, *self._silent):
                poll.register(number, select.POLLIN)
            for number, _ in poll.poll(1000):
                if number == self._hear_signals.fileno():
                    with suppress(BlockingIOError):
                        self._hear_signals.recv(4096)
                elif self._metrics is not None and number == self._metrics.fileno():
                    if not self._metrics.asked(self._status()):
                        log.error("the process that shows metrics has ended; start the server again to have them")
                        self._metrics = None
                elif self._trial is not None and number == self._trial.ear.fileno():
                    self._reload_or_not(self._trial)
                elif number in self._children:
                    child = self._children[number]
                    self._hear(child)
                    if child.ended and once and child.session:
                        if child.failure:
                            raise ConnectionError(child.failure)
                        return
                elif number in self._silent:
                    self._open_door(number)
                elif number == self._listener.fileno() and not self._stops:
                    self._take()

    def _status(self) -> dict[str, Any]:
        """How the server does, for who asks over HTTP."""
        inside, waiting = self._admission.inside, self._admission.waiting
        not_ready = ""
        if self._stops:
            not_ready = "being stopped"
        elif inside >= self._limits.sessions and waiting >= self._limits.queue:
            not_ready = f"busy: {inside} sessions, {waiting} waiting"
        return {
            "sessions": inside,
            "queue": waiting,
            "handshakes": len(self._silent) + sum(c.state is _State.STRANGER for c in self._children.values()),
            "pids": [child.pid for child in self._children.values()],
            "not_ready": not_ready,
        }

    # Reload

    def _try_reload(self) -> None:
        """In a process of its own, so that the parent goes on, and no folder can harm it."""
        self._hangups, self._reloaded = 0, time.monotonic()
        try:
            pid, ear, mouth = self._fork()
        except OSError as error:
            self._report_reload(f"no process for it: {error.strerror}")
            return
        if pid == 0:
            with suppress(OSError):
                mouth.sendall(_line({"failure": _failure_of(self._reload)}))
            os._exit(0)
        self._trial = _Child(pid, "", "", self._reloaded, ear)

    def _reload_or_not(self, trial: _Child) -> None:
        data = b""
        with suppress(OSError):
            data = trial.ear.recv(_MAX_MESSAGE)
        trial.ear.close()
        os.kill(trial.pid, signal.SIGKILL)
        os.waitpid(trial.pid, 0)
        self._trial = None
        try:
            failure = json.loads(data)["failure"]
        except ValueError:
            failure = "the process that tried it failed"
        if failure is None:
            if self._metrics is not None:
                self._metrics.say({**self._status(), "state": "reading a model"})
            failure = _failure_of(self._reload)
            gc.unfreeze()
            gc.collect()
            give_back()
            gc.freeze()
            if self._metrics is not None:
                self._metrics.say(self._status())
        self._report_reload(failure)

    def _report_reload(self, failure: str | None) -> None:
        self._event(Event("reloaded", "", None, 0, {"failure": failure}))

    # Children

    def _event(self, event: Event) -> None:
        if self._metrics is not None:
            self._metrics.note(event.kind, event.what)
        self._on_event(event)

    def _fork(self) -> tuple[int, socket.socket, socket.socket]:
        """0 in the child, or its number; the parent's end of what is between them, and the child's. OSError where there
        is no room for a process."""
        sys.stdout.flush()  # or both processes would write what waits
        ear, mouth = socket.socketpair()
        try:
            signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # the child takes none by its parent's handler
            pid = os.fork()
            if pid == 0:
                self._become_child(ear)
        except OSError:
            ear.close()
            mouth.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        if pid:
            mouth.close()
            ear.setblocking(False)
        return pid, ear, mouth

    def _become_child(self, ear: socket.socket) -> None:
        """Let go of what is the parent's."""
        keep_little()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # before a session there is nothing to finish
        for number in (signal.SIGINT, signal.SIGHUP):  # of the terminal, to all: the parent says what to do
            signal.signal(number, signal.SIG_IGN)
        self._listener.close()
        if self._metrics is not None:
            self._metrics.left_in_child()
        if self._trial is not None:
            self._trial.ear.close()
        ears = [child.ear for child in self._children.values()]
        silent = [arrival.socket for arrival in self._silent.values()]
        for other in (ear, self._hear_signals, self._signals, *ears, *silent):
            other.close()

    def _stop_all(self, how: Stop) -> None:
        for number in list(self._silent):
            self._turn_away(number, "the server was stopped", "stopped")
        for child in list(self._children.values()):
            if child.state is _State.INSIDE:
                self._say(child, {"stop": how})
            elif child.state is _State.STRANGER:
                self._end(child, "the server was stopped")  # there is nothing to finish

    def _take(self) -> None:
        """A connection."""
        try:
            arrival = self._listener.arrival(0)
        except PeerAbsentError as error:
            log.info("%s", error)
            time.sleep(0.05)  # out of file descriptors, say: give those that there are a moment to end
            return
        arrival.socket.setblocking(False)
        self._make_room(_network(arrival.host))
        self._silent[arrival.socket.fileno()] = arrival

    def _turn_away(self, number: int, why: str, reason: str) -> None:
        """Of those who have said nothing."""
        arrival = self._silent.pop(number)
        arrival.socket.close()
        self._event(Event("refused", arrival.where, None, 0, {"why": why, "reason": reason}))

    def _open_door(self, number: int) -> None:
        """Something has come: a child for it, unless that is the end."""
        arrival = self._silent[number]
        try:
            gone = not arrival.socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:  # what came was for another, which had this descriptor a moment ago
            return
        except OSError:
            gone = True
        if gone:
            self._turn_away(number, "it left without a word", "vanished")
            return
        del self._silent[number]
        with arrival.socket:
            try:
                pid, ear, mouth = self._fork()
            except OSError as error:
                why = f"no process for it: {error.strerror}"
                self._event(Event("refused", arrival.where, None, 0, {"why": why, "reason": "failed"}))
                return
            if pid == 0:
                self._child(arrival, mouth)
        self._children[ear.fileno()] = _Child(pid, arrival.where, _network(arrival.host), arrival.since, ear)

    def _make_room(self, network: str) -> None:
        """End the oldest handshakes, of the network that has the most, until one more is within the limits."""
        while True:
            strangers = [c for c in self._children.values() if c.state in (_State.STRANGER, _State.LEAVING)]
            silent = {number: _network(arrival.host) for number, arrival in self._silent.items()}
            counts = Counter([*(child.network for child in strangers), *silent.values()])
            if counts[network] >= self._limits.handshakes_each:
                fullest = network
            elif len(strangers) + len(silent) >= self._limits.handshakes:
                fullest = counts.most_common(1)[0][0]
            else:
                return
            why = "too many connections that have not said who they are", "crowd"
            if fullest in silent.values():  # which are the oldest but for those that talk
                self._turn_away(next(number for number in self._silent if silent[number] == fullest), *why)
                continue
            oldest = min((child for child in strangers if child.network == fullest), key=lambda child: child.since)
            self._end(oldest, *why)

    def _end_overdue(self, now: float) -> None:
        for number, arrival in list(self._silent.items()):
            if now > arrival.since + self._listener.setup_timeout:
                self._turn_away(number, "it said nothing", "silent")
        for child in list(self._children.values()):
            patience = DEAD if child.state is _State.INSIDE else self._listener.setup_timeout
            if child.session:
                over = now - child.since - self._limits.longest
                if over > self._limits.drain:
                    self._end(child, "it lasted too long, and did not end its step in time")
                elif over > 0:
                    self._say(child, {"stop": Stop.TIME_UP})
            elif child.state is not _State.WAITING and now > child.since + patience + _GRACE:
                self._end(child, "it has not finished its greeting", "silent")

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
        except Exception as error:  # it reads what strangers send, and may say anything: no word of it ends the parent
            log.warning("the process of %s: %s", child.where, error)
            self._end(child, f"its process failed: {error}")

    def _understand(self, child: _Child, message: Mapping[str, Any]) -> None:
        if message["say"] == "known":
            child.client = message["client"]
            self._admission.ask(child, child.client)
            self._tell_news()
        elif message["say"] == "spent":  # it is turned away for what it has used
            child.client, child.state, child.reason = message["client"], _State.LEAVING, "limit"
        elif message["say"] == "begun":
            self._begun += 1
            child.session, child.since = self._begun, time.monotonic()
            self._report("begun", child, {})
        elif message["say"] == "told":
            self._report("told", child, message["what"])
        elif message["say"] == "ended":
            if child.state is not _State.LEAVING:
                child.reason = message["reason"]
            child.failure, child.ended = message["failure"], True
            self._bury(child)  # which is on its way out; its place is free

    def _tell_news(self) -> None:
        """What has changed of places and the queue, to whom it concerns."""
        for child, news in self._admission.news():
            if isinstance(news, Refusal):
                child.state, child.since = _State.LEAVING, time.monotonic()
                child.reason = "busy" if news.again else "limit"
                self._say(child, {"refused": news.reason, "again": news.again})
                continue
            if news == 0:
                child.state, child.since = _State.INSIDE, time.monotonic()
            elif child.state is _State.STRANGER:
                child.state = _State.WAITING
                self._report("waits", child, {"place": news})
            self._say(child, {"place": news})

    def _say(self, child: _Child, message: Mapping[str, Any]) -> None:
        """Tell a child something; of a child that does not listen the parent hears when it ends."""
        if "stop" in message:
            if child.stopping == message["stop"]:
                return
            child.stopping = message["stop"]
        with suppress(OSError):
            child.ear.send(_line(message))

    def _report(self, kind: Kind, child: _Child, what: Any) -> None:
        self._event(Event(kind, child.where, child.client, child.session, what))

    def _end(self, child: _Child, why: str, reason: str = "failed") -> None:
        child.failure, child.reason, child.ended = why, reason, True
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
            seconds = time.monotonic() - child.since
            self._report("ended", child, {"failure": child.failure, "reason": child.reason, "seconds": seconds})
        elif child.failure:
            self._report("refused", child, {"why": child.failure, "reason": child.reason})
        self._admission.leave(child)
        self._tell_news()

    def _kill_all(self) -> None:
        if self._trial is not None:
            os.kill(self._trial.pid, signal.SIGKILL)
            os.waitpid(self._trial.pid, 0)
        for arrival in self._silent.values():
            arrival.socket.close()
        self._silent.clear()
        for child in list(self._children.values()):
            self._end(child, "the server was stopped")

    # The child

    def _child(self, arrival: Arrival, mouth: socket.socket) -> None:
        """Serve one connection and exit. Never returns."""
        code = 1
        try:
            parent = _Parent(mouth)
            failure, reason = self._session(arrival, parent)
            parent.say("ended", failure=failure, reason=reason)
            code = 0
        except BaseException:
            log.exception("the process of %s failed", arrival.where)
        finally:
            os._exit(code)

    def _session(self, arrival: Arrival, parent: _Parent) -> tuple[str | None, str]:
        """Why it ended too early, or None; and the kind of that reason."""
        order = Stop.AFTER_ANSWER  # of whoever sends a signal to this process by himself

        def obey(message: Mapping[str, Any]) -> None:
            nonlocal order
            order = Stop(message["stop"])

        try:
            with self._listener.welcome(arrival, lambda door: self._refusal(parent, door)) as channel:
                signal.signal(signal.SIGTERM, lambda *_: self._stop_session(order))
                signal.pthread_sigmask(signal.SIG_BLOCK, _STOP)  # in that thread: a signal is to wake this one
                arguments = parent, obey, threading.get_ident()
                threading.Thread(target=_listen, args=arguments, daemon=True).start()
                signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP)
                parent.say("begun")
                self._serve(channel, lambda what: parent.say("told", what=what))
        except (ConnectionError, ValueError) as error:
            log.debug("the session of %s ended", arrival.where, exc_info=True)
            return " ".join(str(error).split()) or type(error).__name__, _kind(error)
        return None, ""

    def _refusal(self, parent: _Parent, door: Door) -> Refusal | None:
        """Why a client does not come in, after it has waited for its turn."""
        if self._doorkeeper is not None and door.peer is not None:
            refusal = self._doorkeeper.spent(door.peer)
            if refusal is not None:
                parent.say("spent", client=door.peer.name)
                return refusal
        return _ask(parent, door)


class _Parent:
    """The parent, as a child knows it. A child does not outlive it."""

    def __init__(self, mouth: socket.socket) -> None:
        self._mouth, self._heard = mouth, b""
        self.fileno = mouth.fileno

    def say(self, say: str, **what: Any) -> None:
        self._mouth.sendall(_line({"say": say, **what}))

    def hear(self) -> list[Mapping[str, Any]]:
        """What it has said; waits for something."""
        data = b""
        with suppress(OSError):
            data = self._mouth.recv(4096)
        if not data:
            os._exit(1)
        *lines, self._heard = (self._heard + data).split(b"\n")
        return [json.loads(line) for line in lines]


def _ask(parent: _Parent, door: Door) -> Refusal | None:
    """Have the parent decide whether the client may come in; meanwhile it hears its place, and is listened to."""
    parent.say("known", client=door.peer and door.peer.name)
    place, told = 0, 0.0
    poll = select.poll()
    poll.register(parent, select.POLLIN)
    poll.register(door, select.POLLIN)
    while True:
        for number, _ in poll.poll(BEAT * 1000):
            if number != parent.fileno():
                continue
            for message in parent.hear():
                if "refused" in message:
                    return Refusal(message["refused"], message["again"])
                if "place" in message:
                    place, told = message["place"], 0.0
                    if not place:
                        return None
        door.listen()
        if place and time.monotonic() > told + BEAT:
            door.wait(place)
            told = time.monotonic()


def _listen(parent: _Parent, obey: Callable[[Mapping[str, Any]], None], main: int) -> None:
    """What the parent says while a session runs: when it should end. The session then looks again and again whether it
    can."""
    poll = select.poll()
    poll.register(parent, select.POLLIN)
    stopping = False
    while True:
        if poll.poll(_NUDGE * 1000 if stopping else None):
            for message in parent.hear():
                obey(message)
            stopping = True
        signal.pthread_kill(main, signal.SIGTERM)


_KINDS = {
    StoppingError: "stopped",
    PeerBusyError: "busy",
    UntrustedPeerError: "untrusted",
    RefusedByPeerError: "untrusted",
    PeerSilentError: "silent",
    PeerVanishedError: "vanished",
    ProtocolError: "protocol",
}
"""Why a connection or a session ended, in a few words that can be counted."""


def _failure_of(reload: Callable[[], None]) -> str | None:
    """Why it cannot be done, or None where it was."""
    try:
        reload()
    except Exception as error:
        log.debug("not reloaded", exc_info=True)
        return " ".join(str(error).split()) or type(error).__name__
    return None


def _kind(error: Exception) -> str:
    return next((word for kind, word in _KINDS.items() if isinstance(error, kind)), "failed")


def _line(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message, allow_nan=False).encode() + b"\n"


def _network(host: str) -> str:
    """An address; of IPv6, where one machine has as many as it likes, its first 64 bits."""
    address = ipaddress.ip_address(host.split("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is None:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return host
