"""Next-token cross-entropy that never holds all the logits: rows go through the vocabulary in chunks, and the gradient
is formed in the forward pass while a chunk's logits are at hand.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

IGNORED = -100


def causal_lm_loss(
    hidden: Tensor,
    vocabulary: Tensor,
    labels: Tensor,
    *,
    multiplier: float = 1.0,
    num_items: Tensor | int | None = None,
    chunk_rows: int | None = None,
) -> Tensor:
    """Mean over tokens of -log softmax(multiplier * hidden @ vocabulary^T)[next token], in nats; a scalar.

    hidden: [B, T, d]; vocabulary: [V, d]; labels: [B, T], the input ids themselves: they are shifted here, and -100 is
    left out. num_items: what to divide the sum by, instead of the number of tokens here (gradient accumulation).
    Computed in the autocast type where autocast is on, with float32 softmax; float64 stays float64.
    """
    targets = torch.full_like(labels, IGNORED)
    targets[:, :-1] = labels[:, 1:]
    dtype = (
        torch.get_autocast_dtype(hidden.device.type) if torch.is_autocast_enabled(hidden.device.type) else hidden.dtype
    )
    total = _CrossEntropySum.apply(
        hidden.flatten(0, 1), vocabulary, targets.flatten(), multiplier, dtype, chunk_rows or _chunk_rows(vocabulary)
    )
    if num_items is None:
        num_items = (targets != IGNORED).sum()
    return total / (num_items.to(total.device) if isinstance(num_items, Tensor) else num_items)


def _chunk_rows(vocabulary: Tensor) -> int:
    """Rows whose logits fit a core's cache; on an accelerator, rows that fill it."""
    if vocabulary.device.type == "cpu":
        return max(64, 2**20 // vocabulary.shape[0])
    return max(1024, 2**27 // vocabulary.shape[0])


class _CrossEntropySum(torch.autograd.Function):
    """Sum of cross-entropies; d/dlogits = softmax - onehot, pulled back to hidden and vocabulary at once."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, vocabulary: Tensor, targets: Tensor, multiplier: float, dtype: torch.dtype, chunk: int
    ) -> Tensor:
        rows, words = (hidden * multiplier).to(dtype), vocabulary.to(dtype)
        exact = dtype if dtype == torch.float64 else torch.float32
        total = torch.zeros((), dtype=exact, device=hidden.device)
        need_gradient = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        if need_gradient:
            d_rows, d_words = torch.empty_like(rows), torch.zeros_like(vocabulary, dtype=exact)
        with torch.autocast(hidden.device.type, enabled=False):
            for start in range(0, len(rows), chunk):
                part, target = rows[start : start + chunk], targets[start : start + chunk, None]
                kept = target != IGNORED
                target = target.clamp(min=0)
                log_p = torch.log_softmax(part @ words.T, dim=-1, dtype=exact)
                total -= (log_p.gather(1, target) * kept).sum()
                if need_gradient:
                    p = log_p.exp_()
                    p.scatter_add_(1, target, torch.full_like(target, -1, dtype=exact))
                    if not kept.all():
                        p *= kept
                    p = p.to(dtype)
                    torch.mm(p, words, out=d_rows[start : start + chunk])
                    d_words += p.T @ part
        if need_gradient:
            ctx.save_for_backward((d_rows * multiplier).to(hidden.dtype), d_words.to(vocabulary.dtype))
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_total: Tensor) -> tuple[Tensor | None, ...]:
        d_hidden, d_vocabulary = ctx.saved_tensors
        return d_hidden * d_total, d_vocabulary * d_total, None, None, None, None
