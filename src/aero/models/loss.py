"""Next-token cross-entropy that never holds all the logits: rows go through the vocabulary in chunks, and the gradient
is formed in the forward pass while a chunk's logits are at hand. A teacher's distributions may be learnt beside text.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

IGNORED = -100


class SoftTargets(NamedTuple):
    """What a teacher predicts, and how much that counts (Hinton et al. 2015, §2). Its logits are multiplier * hidden @
    vocabulary^T. hidden: [B, T, d']; vocabulary: [V, d']; neither gets a gradient."""

    hidden: Tensor
    vocabulary: Tensor
    multiplier: float
    temperature: float
    weight: float


def causal_lm_loss(
    hidden: Tensor,
    vocabulary: Tensor,
    labels: Tensor,
    *,
    multiplier: float = 1.0,
    num_items: Tensor | int | None = None,
    soft: SoftTargets | None = None,
    chunk_rows: int | None = None,
) -> Tensor:
    """Mean over tokens of -log softmax(multiplier * hidden @ vocabulary^T)[next token], in nats; a scalar.

    hidden: [B, T, d]; vocabulary: [V, d]; labels: [B, T], the input ids themselves: they are shifted here, and -100 is
    left out. num_items: what to divide the sum by, instead of the number of tokens here (gradient accumulation).
    With `soft`, weight w, temperature S, (1 - w) times that and w S^2 KL(softmax(theirs / S) || softmax(ours / S))
    over the same tokens, where S^2 keeps the size of the gradient. Computed in the autocast type where autocast is on,
    with float32 softmax; float64 stays float64.
    """
    targets = torch.full_like(labels, IGNORED)
    targets[:, :-1] = labels[:, 1:]
    dtype = (
        torch.get_autocast_dtype(hidden.device.type) if torch.is_autocast_enabled(hidden.device.type) else hidden.dtype
    )
    rows = hidden.flatten(0, 1)
    total = _CrossEntropySum.apply(
        rows, vocabulary, targets.flatten(), multiplier, soft, dtype, chunk_rows or _chunk_rows(vocabulary)
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
    """Sum of cross-entropies; d/dlogits = softmax - onehot, pulled back to hidden and vocabulary at once.

    Of the divergence from a teacher at temperature S: d/dlogits S^2 KL = S (softmax(logits / S) - softmax(theirs / S)).
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        vocabulary: Tensor,
        targets: Tensor,
        multiplier: float,
        soft: SoftTargets | None,
        dtype: torch.dtype,
        chunk: int,
    ) -> Tensor:
        rows, words = (hidden * multiplier).to(dtype), vocabulary.to(dtype)
        exact = dtype if dtype == torch.float64 else torch.float32
        kept = (targets != IGNORED)[:, None]
        targets = targets.clamp(min=0)[:, None]
        losses = torch.zeros_like(targets, dtype=exact)
        need_gradient = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        if need_gradient:
            d_rows, d_words = torch.empty_like(rows), torch.zeros_like(vocabulary, dtype=exact)
        teacher = None if soft is None else _Teacher(soft, dtype, exact)
        # Memory for one chunk, used again for every chunk.
        chunk = min(chunk, len(rows))
        product_memory = rows.new_empty(chunk, len(words))
        logits_memory = product_memory if dtype == exact else torch.empty_like(product_memory, dtype=exact)
        log_p_memory = torch.empty_like(logits_memory)
        with torch.autocast(hidden.device.type, enabled=False):
            for start in range(0, len(rows), chunk):
                here = slice(start, start + chunk)
                part, target = rows[here], targets[here]
                product = torch.mm(part, words.T, out=product_memory[: len(part)])
                logits = product if dtype == exact else logits_memory[: len(part)].copy_(product)
                log_p = torch.log_softmax(logits, dim=-1, out=log_p_memory[: len(part)])
                torch.gather(log_p, 1, target, out=losses[here]).neg_()
                if need_gradient:
                    d_logits = log_p.exp_().scatter_add_(1, target, log_p.new_full(target.shape, -1))
                if teacher is not None:
                    divergence, d_divergence = teacher.divergence(logits, here)
                    losses[here].mul_(1 - teacher.weight).add_(divergence, alpha=teacher.weight)
                    if need_gradient:
                        d_logits.mul_(1 - teacher.weight).add_(d_divergence, alpha=teacher.weight)
                if need_gradient:
                    d_logits = product.copy_(d_logits)  # in the type of the products
                    torch.mm(d_logits, words, out=d_rows[here])
                    d_words += d_logits.T @ (part * kept[here])
        if need_gradient:
            ctx.save_for_backward((d_rows * kept * multiplier).to(hidden.dtype), d_words.to(vocabulary.dtype))
        return losses.masked_fill_(~kept, 0).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_total: Tensor) -> tuple[Tensor | None, ...]:
        d_hidden, d_vocabulary = ctx.saved_tensors
        return d_hidden * d_total, d_vocabulary * d_total, None, None, None, None, None


class _Teacher:
    """A teacher's logits, chunk by chunk as the student's."""

    def __init__(self, soft: SoftTargets, dtype: torch.dtype, exact: torch.dtype) -> None:
        self.weight = soft.weight
        self._temperature, self._exact = soft.temperature, exact
        self._rows = (soft.hidden.flatten(0, 1) * soft.multiplier).to(dtype)
        self._words = soft.vocabulary.to(dtype)

    def divergence(self, logits: Tensor, here: slice) -> tuple[Tensor, Tensor]:
        """S^2 KL of each row, [rows, 1], and its gradient, [rows, V]. logits: the student's of the rows `here`."""
        theirs = (self._rows[here] @ self._words.T).to(self._exact)
        log_p = torch.log_softmax(theirs.div_(self._temperature), dim=-1)
        log_q = torch.log_softmax(logits / self._temperature, dim=-1)
        p, q = log_p.exp(), log_q.exp()
        divergence = self._temperature**2 * (p * (log_p - log_q)).sum(-1, keepdim=True)
        return divergence, q.sub_(p).mul_(self._temperature)
