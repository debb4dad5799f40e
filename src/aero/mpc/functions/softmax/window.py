"""A public window of row maxima for each head, in place of the maxima themselves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

COARSE_FRACTION = 2
"""Fractional bits of coarse scores."""
SPAN = 25.75
"""Octaves of a window: row maxima lie so far below its top at most."""
MARGIN = 2.0
"""Octaves that a window has beyond the row maxima that were seen, above and below, at least."""


@dataclass(frozen=True)
class MaximaWindow:
    """Where row maxima lie, for each head: from tops[h] - SPAN to below tops[h], of scores in base 2. A row of one key
    may lie anywhere. tops: multiples of 2^-2.

    Outside: a score of top and more counts as one of top + 2^-2 (those within 2^-2 of top may count as they are); a
    row whose maximum lies deeper than `SPAN` gets probabilities that are right or too small, and below the plan's
    reach 0.
    """

    tops: tuple[float, ...]

    def __post_init__(self) -> None:
        if any((top * 2**COARSE_FRACTION) % 1 for top in self.tops):
            raise ValueError(f"tops of windows are finite multiples of 2^-{COARSE_FRACTION}: make them by `window_of`")


def window_of(row_maxima: Sequence[tuple[float, float]], base: float) -> MaximaWindow | None:
    """A window around the lowest and highest row maximum of each head, in the score's own unit; what it spans beyond
    them lies half above, half below. None where a head's maxima are too far apart for it."""
    unit, tops = math.log2(base), []
    for low, high in row_maxima:
        room = SPAN - (high - low) * unit
        if not room >= 2 * MARGIN:
            return None
        tops.append(math.ceil((high * unit + room / 2) * 2**COARSE_FRACTION) / 2**COARSE_FRACTION)
    return MaximaWindow(tuple(tops))
