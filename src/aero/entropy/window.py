"""The window of attention: how far the log-sum-exp of an attention row's logits is from zero, and a penalty that keeps
it near.

A private softmax that knows a public window for the logits of a head needs no maximum, and no comparison: it subtracts
a public constant, and its exponential reads arguments of a known range. The penalty

    zatt * mean over layers, heads and rows of max(0, |logsumexp of the row's logits| - bound)^2

keeps the window narrow while training. Row 0 sees one key alone, whatever its logit, and does not count.
(Named after the z-loss of the output logits, Chowdhery et al. 2022, §5.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aero.entropy.batches import over_batches


@dataclass(frozen=True)
class WindowPenalty:
    """zatt: the weight; bound: of |log-sum-exp| without penalty, in nats. Call it to get the loss."""

    zatt: float = 0.01
    bound: float = 2.0

    def __post_init__(self) -> None:
        if not 0 <= self.zatt < math.inf:
            raise ValueError(f"zatt is {self.zatt}; give a number of at least 0")
        if not 0 <= self.bound < math.inf:
            raise ValueError(f"zatt_bound is {self.bound}; give a number of at least 0")

    def __call__(self, log_sum_exps: Sequence[Tensor]) -> Tensor:
        """log_sum_exps: of the rows of each of the L layers, [B, H, T] -> the loss, a scalar; 0 where T is one."""
        rows = torch.stack(tuple(log_sum_exps))[..., 1:]
        if not rows.numel():
            return rows.sum()
        return self.zatt * (rows.abs() - self.bound).clamp(min=0).square().mean()


@dataclass(frozen=True)
class AttentionWindow:
    """What a model's attention rows reach on some text, for each layer and head (L rows of H).

    low, high: smallest and largest log-sum-exp of a row's logits; depth: largest log-sum-exp minus logit, so that
    exp(-depth) is the smallest probability. In nats; row 0 of a text, which sees one key, does not count.
    Raises ValueError for numbers that are not finite, or not L rows of H.
    """

    low: tuple[tuple[float, ...], ...]
    high: tuple[tuple[float, ...], ...]
    depth: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        for name in ("low", "high", "depth"):
            rows = np.asarray(getattr(self, name), dtype=np.float64)
            if rows.ndim != 2 or not rows.size or rows.shape != np.shape(self.low):
                raise ValueError(f"{name} must be L rows of H numbers")
            if not np.isfinite(rows).all():
                raise ValueError("the logits of attention are not finite; the model has diverged, use an earlier one")
            object.__setattr__(self, name, tuple(map(tuple, rows.tolist())))

    @classmethod
    def of_model(
        cls,
        model: torch.nn.Module,
        texts: Sequence[np.ndarray],
        *,
        batch_size: int = 8,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> AttentionWindow:
        """Measure an AERO model on texts of token ids, all of one length of at least two.

        on_progress: called with the number of texts done and the number of all.
        """
        if not len(texts) or len(texts[0]) < 2:
            raise ValueError("no text to measure the window on; give at least one text of two tokens")

        def of_batch(output: Any) -> Tensor:
            row = torch.stack(output.log_sum_exps)[..., 1:].double()  # [L, B, H, T-1]
            depth = row - torch.stack(output.lowest_logits)[..., 1:]
            return torch.stack([(-row).amax((1, 3)), row.amax((1, 3)), depth.amax((1, 3))])

        options = {"output_log_sum_exps": True, "output_lowest_logits": True, "logits_to_keep": 1}
        found = over_batches(model, texts, of_batch, batch_size=batch_size, on_progress=on_progress, **options)
        low, high, deep = found.amax(0).cpu()
        return cls(*(tuple(map(tuple, part.tolist())) for part in (-low, high, deep)))

    def beyond(self, other: AttentionWindow) -> np.ndarray:
        """How far another text's window leaves this one, for each layer and head, in nats; 0 where it stays inside."""
        above = np.asarray(other.high) - np.asarray(self.high)
        below = np.asarray(self.low) - np.asarray(other.low)
        return np.maximum(np.maximum(above, below), 0.0)

    @property
    def bound(self) -> float:
        """Largest |log-sum-exp| of all heads."""
        return max(np.abs(self.low).max().item(), np.abs(self.high).max().item())

    @property
    def widest(self) -> float:
        """Largest high - low of a head: what a public constant for the head must cover."""
        return float((np.asarray(self.high) - np.asarray(self.low)).max())

    @property
    def deepest(self) -> float:
        """Largest depth of all heads: the range that an exponential must serve."""
        return float(np.max(self.depth))

    def to_json(self) -> dict[str, Any]:
        lists = {name: [list(row) for row in getattr(self, name)] for name in ("low", "high", "depth")}
        return {**lists, "bound": self.bound, "widest": self.widest, "deepest": self.deepest}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> AttentionWindow:
        """From `to_json`; what follows from the three tables is computed again. ValueError where a key is missing."""
        try:
            return cls(data["low"], data["high"], data["depth"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a window: {error}") from None
