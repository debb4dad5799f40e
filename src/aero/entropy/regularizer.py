"""The entropy regulariser: keeps every head's entropy near a learnable threshold (Jha & Reagen 2025, Alg. 1).

    E_max = log T,  margin = gamma * E_max,  deviation = entropy - theta(l,h) * E_max
    penalty = deviation^2 where |deviation| > margin, else 0
    loss = weight * mean over layers and heads of the penalty

The published algorithm and the authors' published module differ in what deviates, and both are here by name:
"mean" takes E(l,h), the head's entropy averaged over batch and query positions; "sum" takes every query position by
itself and sums the squares over batch and positions, so that its weight is smaller by about the number of positions.
"mean" is the default: its weight does not depend on batch size and context.

A row of causal attention sees i keys, so its entropy cannot exceed log i. The papers compare all rows with log T;
reference="rows" compares each with its own largest value, and a head's mean with their mean.

theta gets gradient from the penalty alone, and only outside the margin.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

Reduction = Literal["mean", "sum"]
Reference = Literal["context", "rows"]


@dataclass(frozen=True)
class EntropyRegularizer:
    """weight: lambda; gamma: the margin as a fraction of E_max; reduction, reference: see the module.

    Call it to get the loss.
    """

    weight: float = 1e-5
    gamma: float = 0.2
    reduction: Reduction = "mean"
    reference: Reference = "context"

    def __post_init__(self) -> None:
        if not 0 <= self.weight < math.inf:
            raise ValueError(f"weight is {self.weight}; give a number of at least 0")
        if not 0 <= self.gamma < 1:
            raise ValueError(f"gamma is {self.gamma}; give a fraction from 0 to below 1")
        if self.reduction not in get_args(Reduction):
            raise ValueError(f"reduction is {self.reduction!r}; choose one of {', '.join(get_args(Reduction))}")
        if self.reference not in get_args(Reference):
            raise ValueError(f"reference is {self.reference!r}; choose one of {', '.join(get_args(Reference))}")

    def __call__(self, row_entropies: Sequence[Tensor], thresholds: Tensor) -> Tensor:
        """row_entropies: of each of the L layers, in nats [B, H, T]; thresholds: theta [L, H] -> the loss, a scalar.

        The gradient goes to both. Raises ValueError where their shapes do not fit.
        """
        entropies = torch.stack(tuple(row_entropies))  # [L, B, H, T]
        layers, _, heads, positions = entropies.shape
        if thresholds.shape != (layers, heads):
            raise ValueError(f"thresholds are {tuple(thresholds.shape)}; the model has {layers} layers, {heads} heads")
        largest = torch.full((positions,), math.log(positions), dtype=entropies.dtype, device=entropies.device)
        if self.reference == "rows":
            largest = torch.arange(1, positions + 1, dtype=entropies.dtype, device=entropies.device).log()
        if self.reduction == "mean":
            mean = largest.mean()
            penalty = self._penalty(entropies.mean(dim=(1, 3)) - thresholds * mean, mean)
        else:
            target = thresholds[:, None, :, None] * largest  # [L, 1, H, T]
            penalty = self._penalty(entropies - target, largest).sum(dim=(1, 3))
        return self.weight * penalty.mean()

    def _penalty(self, deviation: Tensor, largest: Tensor) -> Tensor:
        return torch.where(deviation.abs() > self.gamma * largest, deviation.square(), 0)
