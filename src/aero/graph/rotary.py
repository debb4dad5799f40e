"""Rotary positions as a public linear map of rows (Su et al. 2021, §3.4), in GPT-NeoX's order of features.

In each head the first `rotated` = n features turn, feature i < n/2 with i + n/2, by the angle position * base^(-2i/n):

    y[t, j] = x[t, j] cosine[t, j] + x[t, partner[j]] sine[t, j]

with cosine 1, sine 0 and partner j where nothing turns. Row t is at position start + t. A scaling has frequencies
base^(-2i/n) divided by a factor: all of them, or those that turn less than `low` times in `original` positions, and
those that turn more often, up to `high` times, in part.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SCALING = ("factor", "low", "high", "original")


@dataclass(frozen=True)
class Turns:
    """cosine, sine: [rows, features]; partner: [features], the feature that each one turns with."""

    cosine: np.ndarray
    sine: np.ndarray
    partner: np.ndarray

    @property
    def turning(self) -> np.ndarray:
        """[features] of booleans: does it turn at all?"""
        found: np.ndarray = self.partner != np.arange(len(self.partner))
        return found


def turns(rows: int, features: int, *, heads: int, rotated: int, base: float, start: int, **scaling: float) -> Turns:
    """The map of a `rotary` node on [rows, features]."""
    half, width = rotated // 2, features // heads
    frequencies = float(base) ** (-2 * np.arange(half) / rotated)
    if scaling:
        frequencies = frequencies * _scaled(frequencies, **scaling)
    angles = np.arange(start, start + rows)[:, None] * frequencies
    rest = width - rotated
    cosine = np.concatenate([np.cos(angles), np.cos(angles), np.ones((rows, rest))], axis=1)
    sine = np.concatenate([-np.sin(angles), np.sin(angles), np.zeros((rows, rest))], axis=1)
    return Turns(np.tile(cosine, heads), np.tile(sine, heads), partners(features, heads, rotated))


def _scaled(
    frequencies: np.ndarray, factor: float, low: float = 0.0, high: float = 1.0, original: float = 0.0
) -> np.ndarray:
    kept = np.clip((original * frequencies / (2 * np.pi) - low) / (high - low), 0.0, 1.0)
    found: np.ndarray = kept + (1.0 - kept) / factor
    return found


def partners(features: int, heads: int, rotated: int) -> np.ndarray:
    """[features]: the feature that each one turns with; itself where it does not turn."""
    half, width = rotated // 2, features // heads
    within = np.concatenate([np.arange(half, rotated), np.arange(half), np.arange(rotated, width)])
    found: np.ndarray = (np.arange(heads)[:, None] * width + within).reshape(-1)
    return found
