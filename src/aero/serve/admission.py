"""Who has a place for a session, who waits for one, and in which order.

Of one client, first come, first served. Clients, by name, take turns: however many connections one has in the queue,
the next of another is at most one turn away. A full queue takes a client that has less in it than another, whose last
is turned away. Nothing here knows a connection, a process or a clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from aero.wire.tcp import Refusal

Key = TypeVar("Key")


def _no_objection(name: str | None, running: int) -> Refusal | None:
    return None


class Admission(Generic[Key]):
    """sessions: places. queue: how many may wait. objection(name, running): why the client of this name, which has so
    many sessions, gets no place now, or None; asked when it comes, and when its turn comes."""

    def __init__(
        self, sessions: int, queue: int, objection: Callable[[str | None, int], Refusal | None] = _no_objection
    ) -> None:
        self._sessions, self._queue, self._objection = sessions, queue, objection
        self._inside: dict[Key, str | None] = {}
        self._waiting: dict[str | None, deque[Key]] = {}  # names in the order of their turns
        self._told: dict[Key, int] = {}
        self._turned_away: list[tuple[Key, Refusal]] = []

    @property
    def inside(self) -> int:
        """How many have a place."""
        return len(self._inside)

    @property
    def waiting(self) -> int:
        return sum(map(len, self._waiting.values()))

    def ask(self, key: Key, name: str | None) -> None:
        """Somebody new wants a place; `news` has the answer."""
        refusal = self._objection(name, self._running(name))
        if refusal is not None:
            self._turned_away.append((key, refusal))
            return
        self._waiting.setdefault(name, deque()).append(key)
        self._promote()
        if self.waiting > self._queue:
            counts = {name: len(keys) for name, keys in self._waiting.items()}
            fullest = max(counts, key=lambda other: counts[other])
            loser = fullest if counts[fullest] > counts[name] else name
            last = self._waiting[loser].pop()
            if not self._waiting[loser]:
                del self._waiting[loser]
            busy = f"busy: {_counted(self.inside, 'session')}, {self.waiting} waiting; try again"
            self._turned_away.append((last, Refusal(busy)))

    def leave(self, key: Key) -> None:
        """Somebody has gone, from inside or from the queue; nothing happens where it was in neither."""
        self._told.pop(key, None)
        if self._inside.pop(key, self) is self:
            for name, keys in self._waiting.items():
                if key in keys:
                    keys.remove(key)
                    if not keys:
                        del self._waiting[name]
                    break
        self._promote()

    def close(self, refusal: Refusal) -> None:
        """Turn all away who wait; nobody gets a place any more."""
        self._turned_away += [(key, refusal) for key in self._in_order()]
        self._waiting.clear()
        self._objection = lambda name, running: refusal

    def news(self) -> Iterator[tuple[Key, int | Refusal]]:
        """What has changed since this was last read: who has a place (0), or has moved in the queue (from 1 on), or why
        it was turned away."""
        turned_away, self._turned_away = self._turned_away, []
        for key, refusal in turned_away:
            self._told.pop(key, None)
            yield key, refusal
        places = {**dict.fromkeys(self._inside, 0), **{key: place for place, key in enumerate(self._in_order(), 1)}}
        news = [(key, place) for key, place in places.items() if self._told.get(key) != place]
        self._told = places
        yield from news

    def _promote(self) -> None:
        while self._waiting and len(self._inside) < self._sessions:
            name = next(iter(self._waiting))
            keys = self._waiting.pop(name)
            key = keys.popleft()
            if keys:
                self._waiting[name] = keys  # at the end: the others' turns come first
            refusal = self._objection(name, self._running(name))
            if refusal is None:
                self._inside[key] = name
            else:
                self._turned_away.append((key, refusal))

    def _in_order(self) -> Iterator[Key]:
        """Who waits, in the order in which they will be served if nobody else comes."""
        queues = list(self._waiting.values())
        for turn in range(max(map(len, queues), default=0)):
            yield from (keys[turn] for keys in queues if turn < len(keys))

    def _running(self, name: str | None) -> int:
        return sum(other == name for other in self._inside.values())


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")
