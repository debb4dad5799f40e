"""The next token from what was revealed of the logits: chosen by the client, in the clear and on its own."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen.

    temperature: 0 takes the most likely token; above, logits are divided by it and a token is drawn.
    top_k: draw among so many of the most likely tokens; None: all.
    top_p: draw among the fewest tokens that together have at least this probability (Holtzman et al. 2020, §3.1).
    seed: the same seed draws the same tokens from the same logits; None: another one each time.
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise ValueError(f"a temperature of {self.temperature} is not usable; give 0 (greedy) or more")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"cannot draw among {self.top_k} tokens; give at least 1")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"a probability of {self.top_p} is not usable for top-p; give one above 0, up to 1")
        if self.seed is not None and self.seed < 0:
            raise ValueError(f"a seed is not negative; {self.seed} is")
        if self.greedy and (self.top_k, self.top_p, self.seed) != (None, None, None):
            raise ValueError("top-k, top-p and a seed are for drawing tokens; give a temperature above 0 with them")

    @property
    def greedy(self) -> bool:
        return self.temperature == 0


class Sampler:
    """Chooses tokens one after the other."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._random = np.random.default_rng(sampling.seed)

    def choose(self, logits: np.ndarray) -> int:
        """The id of a token, from float64 logits [V]; minus infinity stands for what cannot be chosen."""
        if self._sampling.greedy:
            return int(np.argmax(logits))
        return int(self._random.choice(len(logits), p=probabilities(logits, self._sampling)))


def probabilities(logits: np.ndarray, sampling: Sampling) -> np.ndarray:
    """With which probability each token is drawn: temperature first, then top-k, then top-p. float64 [V]."""
    scaled = (logits - logits.max()) / sampling.temperature
    order = np.argsort(-scaled, kind="stable")
    kept = np.exp(scaled[order])
    if sampling.top_k is not None:
        kept[sampling.top_k :] = 0
    kept /= kept.sum()
    if sampling.top_p is not None:
        before = np.cumsum(kept) - kept
        kept[before >= sampling.top_p] = 0
        kept /= kept.sum()
    result = np.zeros_like(kept)
    result[order] = kept
    return result
