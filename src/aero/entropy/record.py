"""The head entropies of one model, as data: what tables, heat maps and result files are made from."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aero.entropy.batches import over_batches
from aero.entropy.measure import head_entropy, range_shares
from aero.files.reading import interpreting, typed


@dataclass(frozen=True)
class EntropyRecord:
    """name: of the model; context: T; blocks: how many texts of T tokens were read; head_entropy: in nats, mean over
    texts and positions, L rows of H.

    Raises ValueError for entropies that are not finite (the model has diverged) or not L rows of H.
    """

    name: str
    context: int
    blocks: int
    head_entropy: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        rows = tuple(tuple(float(value) for value in row) for row in self.head_entropy)
        object.__setattr__(self, "head_entropy", rows)
        if not rows or not rows[0] or len({len(row) for row in rows}) != 1:
            raise ValueError("head_entropy must be L rows of H numbers")
        if not all(math.isfinite(value) for row in rows for value in row):
            raise ValueError(f"a head entropy of {self.name} is not finite; the model has diverged, use an earlier one")
        if self.context < 1 or self.blocks < 1:
            raise ValueError(f"context {self.context} and blocks {self.blocks} must be at least 1")

    @classmethod
    def of_model(
        cls,
        model: torch.nn.Module,
        blocks: Sequence[np.ndarray],
        name: str,
        *,
        batch_size: int = 8,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> EntropyRecord:
        """Measure an AERO model on texts of T token ids each, all of one length.

        on_progress: called with the number of blocks done and the number of all.
        """
        if not len(blocks):
            raise ValueError("no text to measure entropies on; give at least one block")

        def of_batch(output: Any) -> Tensor:
            return len(output.entropies[0]) * head_entropy(output.entropies).double()  # summed over texts

        options = {"output_entropies": True, "logits_to_keep": 1}
        sums = over_batches(model, blocks, of_batch, batch_size=batch_size, on_progress=on_progress, **options)
        mean = sums.sum(0) / len(blocks)
        return cls(name, len(blocks[0]), len(blocks), tuple(map(tuple, mean.tolist())))

    @property
    def log_context(self) -> float:
        """log T, the entropy of uniform attention over all T positions, in nats."""
        return math.log(self.context)

    @property
    def uniform(self) -> float:
        """Entropy of a head that attends to all it may see alike, in nats: the mean of log i over i = 1 .. T."""
        return math.lgamma(self.context + 1) / self.context

    @property
    def maximum(self) -> float:
        """Largest head entropy, in nats."""
        return max(max(row) for row in self.head_entropy)

    @property
    def mean(self) -> float:
        """Mean head entropy, in nats."""
        return float(np.mean(self.head_entropy))

    @property
    def layer_means(self) -> tuple[float, ...]:
        """Mean head entropy of each layer, in nats."""
        return tuple(float(np.mean(row)) for row in self.head_entropy)

    @property
    def shares(self) -> tuple[float, float, float, float]:
        """Shares of heads in the quarters of [0, maximum], lowest first. Many in the first: entropy collapse; many in
        the last: entropic overload; most in the middle two: well-behaved (Jha & Reagen 2024, §3).
        """
        return range_shares(torch.tensor(self.head_entropy))

    @property
    def shares_of_log_context(self) -> tuple[float, float, float, float]:
        """The same for the quarters of [0, log T], which compares different models."""
        return range_shares(torch.tensor(self.head_entropy), self.log_context)

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "context": self.context,
            "blocks": self.blocks,
            "head_entropy": [list(row) for row in self.head_entropy],
            "layer_means": list(self.layer_means),
            "mean": self.mean,
            "maximum": self.maximum,
            "log_context": self.log_context,
            "uniform": self.uniform,
            "shares": list(self.shares),
            "shares_of_log_context": list(self.shares_of_log_context),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> EntropyRecord:
        """From `to_json`; what follows from the head entropies is computed again. ValueError where a key is missing."""
        with interpreting("the entropy record"):
            own = {f.name: data[f.name] for f in fields(cls)}
            found: EntropyRecord = typed(cls, own)
        return found
