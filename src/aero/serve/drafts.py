"""Guesses of the next tokens, by the client and in the clear: one private step then confirms several at once.

On a slow line a step costs its rounds, whatever it reads. So the client guesses what follows, has the guesses read
behind the last token, and gets the logits after each. It chooses its tokens from these, one after the other as without
guesses, and goes on for as long as what it chose is what it had guessed; both parties take the other guesses back.

The tokens are those that plain generation chooses, drawn ones too, with the same seed: each is chosen from the model's
own logits after the same text. For drawn tokens that is speculative sampling (Leviathan et al. 2023, Chen et al. 2023)
with a draft that is certain of its guess: it is accepted with the probability that the model gives it.

Guesses come from the text itself, where a phrase stood before, or from a small model that the server publishes
(`aero.compiler.draft`). The server learns how many guesses a step had and how many held (docs/operate/serving.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

MAX_GUESSES = 15
PHRASE, MODEL = "phrase", "model"
"""Where guesses come from: a phrase that stood before, or a model that the server publishes."""
Guess = Callable[[Sequence[int], int], list[int]]
"""Of ids and how many tokens at most: what may follow, [] for no idea."""
_LONGEST, _SHORTEST = 4, 2  # tokens of a phrase that is looked up
_FORGETS = 0.9  # what was seen counts by so much less, each step later
_TRIED, _HELD = 2.0, 1.2  # guesses that are taken to have been made before there are any, and those that held
_SLOPE = 0.15  # seconds of a row more, as a part of those of a step, before there are any


def continued_phrase(ids: Sequence[int], most: int) -> list[int]:
    """Up to `most` tokens that followed when the last few stood here before; [] where they did not. The longest phrase
    counts, of up to four tokens and at least two, and the last place where it stood (look-up in the prompt itself, as
    Yang et al. 2023, "Inference with reference", have it)."""
    for length in range(min(_LONGEST, len(ids) - 1), _SHORTEST - 1, -1):
        phrase = list(ids[-length:])
        for start in range(len(ids) - length - 1, -1, -1):
            if list(ids[start : start + length]) == phrase:
                return list(ids[start + length : start + length + most])
    return []


@dataclass
class Pace:
    """How many guesses pay, from what was seen: which part of those of each source held, and how long steps of how many
    rows took.

    most: guesses of a prompt in a step; 0: none are ever made. ValueError for more than MAX_GUESSES.
    """

    most: int
    _counts: dict[str, tuple[float, float]] = field(default_factory=dict)
    _rows: list[tuple[int, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not 0 <= self.most <= MAX_GUESSES:
            raise ValueError(f"{self.most} guesses a step; give 0 to {MAX_GUESSES}")

    def length(self, available: int, rows: int, source: str = PHRASE) -> int:
        """Guesses to be made: as many as give the most tokens a second, beside `rows` that are read anyway."""
        first, each = self._seconds()
        held = self.held(source)

        def tokens_a_second(guesses: int) -> float:
            return sum(held**n for n in range(guesses + 1)) / (first + each * (rows + guesses))

        return max(range(min(self.most, available) + 1), key=tokens_a_second)

    def held(self, source: str) -> float:
        """The part of a source's guesses that held so far."""
        tried, held = self._counts.get(source, (_TRIED, _HELD))
        return held / tried

    def guessed(self, tried: int, held: int, source: str = PHRASE) -> None:
        """Of a prompt's guesses, so many held; those behind the first that did not tell nothing."""
        before, before_held = self._counts.get(source, (_TRIED, _HELD))
        self._counts[source] = (
            _FORGETS * before + (1 - _FORGETS) * _TRIED + min(held + 1, tried),
            _FORGETS * before_held + (1 - _FORGETS) * _HELD + held,
        )

    def took(self, rows: int, seconds: float) -> None:
        """A step with so many outputs."""
        self._rows = [*self._rows[-31:], (rows, seconds)]

    def _seconds(self) -> tuple[float, float]:
        """Of a step without rows, and of each row: least squares, the assumed slope where all had as many rows."""
        if not self._rows:
            return 1.0, _SLOPE
        count = len(self._rows)
        mean_rows, mean = (sum(part) / count for part in zip(*self._rows, strict=True))
        spread = sum((rows - mean_rows) ** 2 for rows, _ in self._rows)
        if not spread:
            first = mean / (1 + _SLOPE * mean_rows)
            return first, _SLOPE * first
        each = sum((rows - mean_rows) * (seconds - mean) for rows, seconds in self._rows) / spread
        each = min(max(each, 0.0), mean / mean_rows)
        return mean - each * mean_rows, each
