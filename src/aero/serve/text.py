"""Text that appears as tokens come: whole characters only, and nothing beyond a stop string."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

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


@dataclass
class Kept:
    """What was read last at a place of a session. asked: the prompt as it was freshly encoded; used: as it was read;
    answer: what followed, without an end token."""

    asked: list[int] = field(default_factory=list)
    used: list[int] = field(default_factory=list)
    answer: list[int] = field(default_factory=list)

    def continued(self, ids: Sequence[int], decode: Callable[[Iterable[int]], str], room: int) -> list[int] | None:
        """A prompt as a continuation of what was read, or None where it is none, or has more than `room` tokens.

        What the model wrote, encoded anew as part of the next prompt, may have other tokens than those that it chose;
        those that were read are taken where the text is the same.
        """
        if not self.asked or list(ids[: len(self.asked)]) != self.asked:
            return None
        rest = list(ids[len(self.asked) :])
        for answer in (self.answer, self.answer[:-1]):  # the last token was chosen, and not read
            text = decode(answer)
            length = bisect_left(range(len(rest)), len(text), key=lambda n: len(decode(rest[:n])))
            if rest[length:] and decode(rest[:length]) == text:
                found = [*self.used, *answer, *rest[length:]]
                return found if len(found) <= room else None
        return None
