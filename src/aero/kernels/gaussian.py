"""The discrete Gaussian over the integers: its exact probabilities, as a table to sample from in constant time.

D(x) is proportional to exp(-x^2 / (2 s^2)) for integers x; s, here the deviation, is its standard deviation to many
digits where s is above 1. Keys and encryption noise are drawn from it because what hints on them cost is known for it
(Kim, Lee, Seo, Song 2023); docs/security/errors.md.

A sample takes one word of 64 bits: the lowest bit is the sign, the other 63 are compared with *every* threshold of the
table, and the number of thresholds that they reach is the magnitude (inversion of the cumulative distribution, as in
Peikert 2010; the scan over the whole table, as in Bos et al. 2016, takes the same time for every result; the kernel is
`sample_table`). Probabilities are rounded to 2^-63, so that a sample is within 2^-59 of the distribution in total
variation, and no sample is larger than the last magnitude with a probability of 2^-64.
"""

from __future__ import annotations

from decimal import Decimal, localcontext
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

MAX_DEVIATION = 12.0
"""Magnitudes then fit eight bits."""
_PRECISION = 50  # decimal digits
_STRETCH = 1 << 15  # words at a time, so that they stay in the cache


@lru_cache(maxsize=8)
def thresholds(deviation: float) -> tuple[int, ...]:
    """round(2^63 P(|x| < k)) for k = 1, 2, ... as long as it is below 2^63. ValueError for a deviation out of range."""
    if not 1 <= deviation <= MAX_DEVIATION:
        raise ValueError(f"a discrete Gaussian of deviation {deviation}: give 1 to {MAX_DEVIATION:g}")
    with localcontext() as context:
        context.prec = _PRECISION
        weights = [_weight(x, deviation) for x in range(int(20 * deviation))]
        total = 2 * sum(weights) - weights[0]
        found, below = [], Decimal(0)
        for x, weight in enumerate(weights):
            below += weight if x == 0 else 2 * weight
            threshold = int((below / total * 2**63).to_integral_value())
            if threshold >= 1 << 63:
                break
            found.append(threshold)
    return tuple(found)


@lru_cache(maxsize=8)
def table(deviation: float) -> NDArray[np.uint64]:
    """The thresholds, as the kernel takes them."""
    return np.array(thresholds(deviation), dtype=np.uint64)


def largest(deviation: float) -> int:
    """No sample is larger."""
    return len(thresholds(deviation))


def normal_from_words(words: NDArray[np.uint64], deviation: float) -> NDArray[np.int64]:
    """Two rounded normal numbers from each pair of uniform words: int64 of the same length, which is even."""
    out = np.empty(words.size, dtype=np.int64)
    for start in range(0, words.size, _STRETCH):
        radius, angle = np.split(words[start : start + _STRETCH].astype(np.float64), 2)
        radius = np.sqrt(np.log((radius + 1) * 2.0**-64) * (-2 * deviation**2))
        angle *= 2 * np.pi * 2.0**-64
        drawn = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])
        out[start : start + _STRETCH] = np.rint(drawn).astype(np.int64)
    return out


def _weight(x: int, deviation: float) -> Decimal:
    return (-(Decimal(x) ** 2) / (2 * Decimal(deviation) ** 2)).exp()
