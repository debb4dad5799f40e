"""Text that appears as tokens come: whole characters only, and nothing beyond a stop string."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

_INCOMPLETE = "�"  # what a decoder gives for bytes that are no character yet


class TextStream:
    """Turns token ids into text, piece by piece.

    decode: the text of all ids so far. A token may end within a character, and within what may become a stop string:
    that end is held back until more tokens tell. The pieces together are `decode` of all ids, up to a stop string.

    stop: texts at which generation ends; they are not part of the text themselves.
    """

    def __init__(self, decode: Callable[[Iterable[int]], str], stop: Sequence[str] = ()) -> None:
        if not all(stop):
            raise ValueError("a stop string is empty; give at least one character")
        self._decode, self._stop = decode, tuple(stop)
        self._ids: list[int] = []
        self._text = ""
        self.stopped = False

    @property
    def text(self) -> str:
        """What was given out so far."""
        return self._text

    def push(self, token: int) -> str:
        """The text that this token completes."""
        self._ids.append(token)
        text = self._decode(self._ids).rstrip(_INCOMPLETE)
        ends = [text.find(stop) for stop in self._stop if stop in text]
        if ends:
            self.stopped = True
            return self._give(text[: min(ends)])
        return self._give(text[: len(text) - self._undecided(text)])

    def finish(self) -> str:
        """What was held back, when no more tokens come."""
        return "" if self.stopped else self._give(self._decode(self._ids))

    def _undecided(self, text: str) -> int:
        """How many characters at the end may be the beginning of a stop string."""
        longest = 0
        for stop in self._stop:
            for length in range(min(len(stop) - 1, len(text)), longest, -1):
                if text.endswith(stop[:length]):
                    longest = length
                    break
        return longest

    def _give(self, text: str) -> str:
        new = text[len(self._text) :]
        self._text += new
        return new
