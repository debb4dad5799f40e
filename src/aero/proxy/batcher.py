"""One private session shared by all requests of a moment: a new one joins at the next step, a finished one leaves.

A thread of its own owns the session (a `Client` is for one thread). Requests come in as `Job`s, and each token goes out
through its job's `deliver`. When the connection breaks, the session is opened again and what was read is read again:
the text so far stands here, so a job goes on where it was, but not through more than so many breaks.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field

from aero.serve.client import GREEDY, Client, Continuation, PrivateRun, PrivateToken
from aero.serve.reconnecting import RECONNECTIONS, broke_off
from aero.serve.sampling import Sampling
from aero.serve.session import DeclinedError, Offer
from aero.serve.text import Kept
from aero.wire import PeerBusyError, ProtocolError, WireError, one_line

log = logging.getLogger(__name__)

ATTEMPTS = 4
"""Connections that are tried in a row before running jobs are given up."""
PAUSE = 0.5
"""Seconds before the second of them; each later one waits twice as long."""
RETRY_AFTER = 5
"""Seconds after which a program may ask again when the server is away or busy."""
RUNS_KEPT = 512
EXCERPT = 32
"""Bytes of a message that are kept to be shown."""
LARGEST = 8
"""Parts of a run of which they are."""


class BusyError(Exception):
    """As many requests wait as may; nothing was begun."""


class AwayError(Exception):
    """The private server cannot be reached; what was begun is given up."""


@dataclass(eq=False)
class Job:
    """One prompt to be continued.

    ids: the prompt, as freshly encoded; given: tokens that follow it whatever the model would choose.
    max_new_tokens, sampling, stop: as `Client.continuation` takes them.
    deliver: called in the batcher's thread with each token and why it is the last one ("stop", "length"), or None;
    failed: called once instead of further tokens, with DeclinedError, AwayError, PeerBusyError, or ValueError.
    """

    ids: Sequence[int]
    max_new_tokens: int
    deliver: Callable[[PrivateToken, str | None], None]
    failed: Callable[[Exception], None]
    sampling: Sampling = GREEDY
    stop: Sequence[str] = ()
    given: Sequence[int] = ()
    cancelled: threading.Event = field(default_factory=threading.Event)

    def cancel(self) -> None:
        """Nobody waits for the rest: its place is free after the step that runs now."""
        self.cancelled.set()


@dataclass(frozen=True)
class Excerpt:
    """Of what the server received for one part of a run: its size in bytes, and the first of its largest message."""

    of: str
    size: int
    first: bytes


@dataclass(frozen=True)
class SeenRun:
    """A run as the server saw it: lengths, sizes, and bytes that are masked at random. session: the how manieth."""

    session: int
    run: PrivateRun
    sent: tuple[Excerpt, ...]


@dataclass
class _Place:
    """A place of the session. job: whose it is now, None when it is free. kept: what was read last, which stays until
    another prompt takes the place. breaks: of the connection, since its job began."""

    job: Job | None = None
    growing: Continuation | None = None
    kept: Kept = field(default_factory=Kept)
    last_used: int = 0
    breaks: int = 0


class Batcher:
    """The thread that owns the session.

    open_session: a context manager that gives a connected `Client`. queue: how many jobs may wait for a place.
    reconnect: through how many breaks of the connection a job goes on.
    """

    def __init__(
        self,
        open_session: Callable[[], AbstractContextManager[Client]],
        queue: int = 64,
        reconnect: int = RECONNECTIONS,
    ) -> None:
        if queue < 1:
            raise ValueError(f"a queue of {queue} takes no request; give at least 1")
        self._open_session, self._most_waiting, self._reconnect = open_session, queue, reconnect
        self._waiting: deque[Job] = deque()
        self._places: list[_Place] = []
        self._changed = threading.Condition()
        self._closing = False
        self._turn = 0
        self._scope = ExitStack()
        self._client: Client | None = None
        self._offer: Offer | None = None
        self._model: tuple[object, ...] | None = None
        self._away: str | None = None
        self.sessions = 0
        """How many were opened so far."""
        self._sent: dict[str, Excerpt] = {}
        self.seen: deque[SeenRun] = deque(maxlen=RUNS_KEPT)
        """The last runs, as the server saw them."""
        self.on_run: list[Callable[[PrivateRun], None]] = []
        self.on_open: list[Callable[[], None]] = []
        self._thread = threading.Thread(target=self._work, name="private session", daemon=True)

    def start(self) -> Client:
        """Connect, and begin to work. Raises what connecting raises; gives the client for its offer and tokenizer."""
        client = self._connect()
        self._thread.start()
        return client

    @property
    def offer(self) -> Offer:
        """What the server said of itself."""
        assert self._offer is not None, "the batcher has not started"
        return self._offer

    @property
    def away(self) -> bool:
        """Whether the session is broken, and no new one could be opened yet."""
        return self._away is not None

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def running(self) -> int:
        return sum(place.job is not None for place in self._places)

    def submit(self, *jobs: Job) -> None:
        """Have all of them done, or none: BusyError where too many wait already, AwayError while the server is away."""
        with self._changed:
            if self._away is not None:
                raise AwayError(self._away)
            free = sum(place.job is None for place in self._places)
            if len(self._waiting) + len(jobs) > self._most_waiting + free:
                raise BusyError(f"{len(self._waiting)} requests wait already; try again")
            self._waiting.extend(jobs)
            self._changed.notify()

    def close(self) -> None:
        """Give up what runs, and end the session."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()
        self._leave()

    # In the thread

    def _work(self) -> None:
        while self._wait_for_work():
            self._drop_cancelled()
            try:
                client = self._client or self._connect_again()
                self._admit(client)
                self._step(client)
            except AwayError as error:
                self._away = str(error)
                self._fail_all(error)
            except PeerBusyError as error:
                self._fail_all(error)
            except WireError as error:
                log.warning("the session broke off: %s", error)
                self._leave()
                self._broken(error)
            except Exception as error:  # a fault with one job must not end the thread that serves all
                log.exception("the private session failed")
                self._leave()
                self._fail_all(AwayError(f"the private session failed: {one_line(str(error))}"))
        self._fail_all(AwayError("this endpoint is closing"))

    def _wait_for_work(self) -> bool:
        """Until there is some; meanwhile a server that was away is looked for. False when the batcher closes."""

        def due() -> bool:
            return self._closing or bool(self._waiting) or self.running > 0

        while True:
            with self._changed:
                self._changed.wait_for(due, RETRY_AFTER if self._away is not None else None)
                if due():
                    return not self._closing
            try:
                self._connect()
            except PeerBusyError:
                self._leave()
                self._away = None
            except (OSError, ValueError) as error:
                self._leave()
                self._away = f"the private server is away: {one_line(str(error))}"

    def _broken(self, error: WireError) -> None:
        """Fail the jobs that do not go on after it."""
        reason = one_line(str(error))
        if not broke_off(error):  # to try again by itself would give it one guess after another
            what = "does not follow the protocol" if isinstance(error, ProtocolError) else "ended the session"
            self._fail_all(AwayError(f"the private server {what}: {reason}"))
        for place in self._places:
            if place.job is not None:
                place.breaks += 1
                if place.breaks > self._reconnect:
                    place.job.failed(AwayError(f"the private session broke off {place.breaks} times: {reason}"))
                    self._free(place)

    def _connect(self) -> Client:
        """A new session with the same model."""
        client = self._scope.enter_context(self._open_session())
        if self._model not in (None, client.model):
            raise ValueError("the server has another model than before; start this endpoint again")
        self._model, self._offer = client.model, client.offer
        self._client, self._away = client, None
        self.sessions += 1
        client.channel.on_send = self._note_sent
        running = [place for place in self._places if place.job is not None]
        with self._changed:
            self._places = [*running, *(_Place() for _ in range(client.offer.max_prompts - len(running)))]
        for told in self.on_open:
            told()
        return client

    def _connect_again(self) -> Client:
        """AwayError, or PeerBusyError where the server is there and has no place."""
        pause = PAUSE
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._connect()
            except PeerBusyError:  # who opens the session has waited already
                self._leave()
                raise
            except (OSError, ValueError) as error:
                self._leave()
                reason = one_line(str(error))
                log.warning("connection %d of %d: %s", attempt, ATTEMPTS, reason)
            with self._changed:
                if attempt < ATTEMPTS and not self._closing:
                    self._changed.wait_for(lambda: self._closing, pause)
                if self._closing:
                    break
            pause *= 2
        raise AwayError(f"the private server is away: {reason}")

    def _leave(self) -> None:
        """End the session, which may be broken."""
        scope, self._scope, self._client = self._scope, ExitStack(), None
        try:
            scope.close()
        except Exception as error:
            log.debug("while leaving: %s", error)

    def _drop_cancelled(self) -> None:
        with self._changed:
            self._waiting = deque(job for job in self._waiting if not job.cancelled.is_set())
        for place in self._places:
            if place.job is not None and place.job.cancelled.is_set():
                self._free(place)

    def _admit(self, client: Client) -> None:
        """Waiting jobs take free places, each the one at which most of its prompt was read already."""
        while True:
            free = [place for place in self._places if place.job is None]
            with self._changed:
                if not free or not self._waiting:
                    return
                job = self._waiting.popleft()
            place, ids = min(
                ((place, self._continued(client, place, job)) for place in free),
                key=lambda found: (found[1] is None, -len(found[0].kept.used), found[0].last_used),
            )
            ids = list(job.ids) if ids is None else ids
            try:
                place.growing = client.continuation(
                    ids, job.max_new_tokens, sampling=job.sampling, stop=job.stop, given=job.given
                )
            except ValueError as error:
                job.failed(error)
                continue
            place.breaks = 0
            place.job, place.kept = job, Kept(list(job.ids), ids)

    def _continued(self, client: Client, place: _Place, job: Job) -> list[int] | None:
        """The job's prompt as a continuation of what was read at this place, or None where it is none."""
        room = client.offer.context - len(job.given) - job.max_new_tokens + 1
        return place.kept.continued(job.ids, client.tokenizer.decode, room)

    def _step(self, client: Client) -> None:
        """One token for each job that runs."""
        growing = {i: place.growing for i, place in enumerate(self._places) if place.growing is not None}
        if not growing:
            return
        self._turn += 1
        runs: set[int] = set()
        try:
            for i, token in client.advance(growing):
                if token.run.index not in runs:
                    runs.add(token.run.index)
                    self._note_run(token.run)
                place = self._places[i]
                assert place.job is not None
                if token.id not in client.offer.end_tokens:
                    place.kept.answer.append(token.id)
                place.last_used = self._turn
                reason = _why_last(growing[i], client, token)
                place.job.deliver(token, reason)
                if reason is not None:
                    self._free(place)
        except DeclinedError as error:
            for place in self._places:
                if place.job is not None:
                    place.job.failed(error)
                    self._free(place)

    def _note_sent(self, label: str, size: int, data: memoryview) -> None:
        before = self._sent.get(label, Excerpt(label, 0, b""))
        self._sent[label] = Excerpt(label, before.size + size, before.first or bytes(data[:EXCERPT]))

    def _note_run(self, run: PrivateRun) -> None:
        largest = sorted(self._sent.values(), key=lambda sent: -sent.size)[:LARGEST]
        self._sent = {}
        self.seen.append(SeenRun(self.sessions, run, tuple(largest)))
        for told in self.on_run:
            told(run)

    def _free(self, place: _Place) -> None:
        place.job = place.growing = None

    def _fail_all(self, error: Exception) -> None:
        with self._changed:
            waiting, self._waiting = list(self._waiting), deque()
        running = [place for place in self._places if place.job is not None]
        for job in (*(place.job for place in running), *waiting):
            assert job is not None
            job.failed(error)
        for place in running:
            self._free(place)


def _why_last(growing: Continuation, client: Client, token: PrivateToken) -> str | None:
    if not token.last:
        return None
    ended = token.id in client.offer.end_tokens or growing.text.stopped
    return "stop" if ended else "length"
