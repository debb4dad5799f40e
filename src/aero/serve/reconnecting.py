"""A client that outlives its connection: where it breaks, a new session reads again what the old one had read.

The text stands with the client, so that nothing is generated twice: each prompt goes on after its last token, its draws
where they were, and its padding is as long as before (`Continuation.padding`). Only what breaks by itself is begun
again. A peer that is not to be trusted, refuses, or does not follow the protocol would otherwise get one guess after
another.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from typing import Any

from aero.engines.engine import NOTHING, RunCost
from aero.serve.client import GREEDY, Client, Continuation, Generating, PrivateToken
from aero.serve.sampling import Sampling
from aero.wire import (
    PeerAbsentError,
    PeerBusyError,
    PeerClosedError,
    PeerSilentError,
    PeerVanishedError,
    ProtocolError,
    Reason,
    WireError,
)

RECONNECTIONS = 3
"""New sessions for one answer, at most."""
SEEK = 60.0
"""Seconds for which a server that is away, or busy, is looked for each time."""
_PAUSE, _LONGEST_PAUSE = 0.5, 8.0


def broke_off(error: BaseException) -> bool:
    """Whether a session ended by this error may go on in a new session: the line, or the other side's process, is
    gone; the server is being stopped; the session has lasted as long as one may; or this side was silent too long."""
    if isinstance(error, PeerClosedError):
        return error.reason in (Reason.STOPPING, Reason.TIME_UP, Reason.SILENCE)
    return isinstance(error, PeerVanishedError | PeerSilentError)


def same_model(before: Client, now: Client) -> None:
    """ProtocolError where a new session is with another model than the session before."""
    if before.model != now.model:
        raise ProtocolError("the server has another model than before; begin anew")


class Reconnecting(Generating):
    """A client for one session after another, of one server.

    open_session: a context manager that gives a connected `Client`. most: new sessions for one answer, at most. say:
    told in one line of each. `set_ups` has what each session cost to begin, by the number of its first run.
    """

    def __init__(
        self,
        open_session: Callable[[], AbstractContextManager[Client]],
        most: int = RECONNECTIONS,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._open_session, self._most, self._say = open_session, most, say
        self._scope = ExitStack()
        self._set_ups: list[tuple[int, RunCost]] = []  # of sessions that broke off
        self._in_vain = NOTHING
        self._client = self._scope.enter_context(open_session())
        self._lost: WireError | None = None
        """What ended the last session, until another has begun."""
        self.offer, self.tokenizer = self._client.offer, self._client.tokenizer
        self.chat_template = self._client.chat_template

    @property
    def set_ups(self) -> list[tuple[int, RunCost]]:
        """Of each session, the number of its first run, and what it cost to begin it: keys and base transfers, and what
        the session that broke off before it had computed in vain."""
        return [*self._set_ups, *([] if self._lost else [self._set_up()])]

    def continuation(
        self,
        ids: Sequence[int],
        max_new_tokens: int,
        *,
        sampling: Sampling = GREEDY,
        stop: Sequence[str] = (),
        given: Sequence[int] = (),
    ) -> Continuation:
        return self._client.continuation(ids, max_new_tokens, sampling=sampling, stop=stop, given=given)

    def go_on(self, prompts: Mapping[int, Continuation], *, keep: bool) -> Iterator[tuple[int, PrivateToken]]:
        """Over as many connections as it takes, and may."""
        left = self._most
        while True:
            if self._lost is not None:
                if left == 0:
                    raise self._lost
                left -= 1
                read = sum(len(prompt.ids) for prompt in prompts.values() if not prompt.ended)
                count = f"{self._most - left} of {self._most}"
                self._say(f"{self._lost}; a new session reads {read} tokens again ({count})")
                self._begin_again()
            try:
                yield from self._client.go_on(prompts, keep=keep)
                return
            except WireError as error:
                self._leave(error)
                if all(prompt.ended for prompt in prompts.values()):
                    return

    def forget(self, prompts: Iterable[int]) -> None:
        """As `Client.forget`; a session that has broken off holds nothing."""
        if self._lost is None:
            try:
                self._client.forget(prompts)
            except WireError as error:
                self._leave(error)

    def _begin_again(self) -> None:
        pause, deadline = _PAUSE, time.monotonic() + SEEK
        while True:
            try:
                client = self._scope.enter_context(self._open_session())
                break
            except WireError as error:
                may_come = broke_off(error) or isinstance(error, PeerAbsentError | PeerBusyError)
                if not may_come or time.monotonic() + pause > deadline:
                    raise
                time.sleep(pause * random.uniform(0.5, 1.0))  # many that lost the same server come apart
                pause = min(2 * pause, _LONGEST_PAUSE)
        same_model(self._client, client)
        client.count_on(self._client)
        self._client, self._lost = client, None

    def _leave(self, error: WireError) -> None:
        """Of a session that has failed. Raises `error` where nothing may go on after it."""
        self._set_ups.append(self._set_up())
        self._in_vain = self._client.in_vain
        self._lost = error
        with suppress(Exception):
            self._scope.__exit__(type(error), error, error.__traceback__)
        self._scope = ExitStack()
        if not broke_off(error):
            raise error

    def _set_up(self) -> tuple[int, RunCost]:
        return self._client.first_run, self._in_vain + self._client.engine.set_up_cost

    def __enter__(self) -> Reconnecting:
        return self

    def __exit__(self, *error: Any) -> None:
        try:
            self._scope.__exit__(*error)
        except WireError as failure:
            if not broke_off(failure):  # a goodbye that nobody hears any more is no failure
                raise
