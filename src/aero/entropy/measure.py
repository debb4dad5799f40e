"""Entropy of attention heads, and how its distribution tells overload from collapse (Jha & Reagen 2024, §3; 2025, §2).

Attention is [..., H, T, S]: rows are probability distributions over the keys. All entropies are in nats. The papers add
1e-9 inside the logarithm, which moves a row's entropy by S * 1e-9 at most; here nothing is added, so that the kernels
which never make the probabilities (`aero.models.attend`) compute the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def row_entropy(attention: Tensor) -> Tensor:
    """-sum_j a_ij log a_ij of every row: [..., T, S] -> [..., T]; half precision is raised to float32 first."""
    if attention.dtype in (torch.bfloat16, torch.float16):
        attention = attention.float()
    # 0 log 0 counts as 0, and has a gradient.
    return -(attention * attention.clamp_min(torch.finfo(attention.dtype).tiny).log()).sum(-1)


def head_entropy(rows: Sequence[Tensor]) -> Tensor:
    """E(l,h), the mean of a head's rows over texts and positions: of each of L layers [B, H, T] -> [L, H]."""
    return torch.stack(tuple(rows)).mean(dim=(1, 3))


def range_shares(entropies: Tensor, maximum: float | None = None) -> tuple[float, float, float, float]:
    """Shares of heads in [0, max/4), [max/4, max/2), [max/2, 3max/4), [3max/4, max]; they sum to one.

    maximum: by default the largest of these entropies, as the papers have it; log T compares different models.
    """
    flat = entropies.flatten().double()
    if not len(flat) or not flat.isfinite().all():
        raise ValueError("the entropies are empty or not finite; the model has diverged")
    top = flat.max().item() if maximum is None else maximum
    # Where even the largest is zero, every head has collapsed.
    quarter = (flat / top * 4).floor().clamp(0, 3) if top > 0 else torch.zeros_like(flat)
    shares = torch.bincount(quarter.long(), minlength=4).double() / len(flat)
    return tuple(shares.tolist())  # type: ignore[return-value]
