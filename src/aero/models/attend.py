"""Causal softmax attention by three kernels, with the statistics of its rows: entropy and log-sum-exp.

    materialised  all probabilities exist; serves every case (padding, a cache, probabilities asked for)
    blockwise     rows in blocks, statistics and their gradients without the probabilities as a whole
    library       PyTorch's own scaled_dot_product_attention, where no statistics are asked for

The entropy of a row with logits z and probabilities p needs no logarithm of p:

    H = logsumexp(z) - sum_j p_j z_j,        sum_j p_j z_j = q . (sum_j p_j k_j)

so it takes the log-sum-exp, and attention with the keys as values. Gradients: d lse / dz_j = p_j, and
dH / dz_j = -p_j (z_j - sum_i p_i z_i), which is what attention's own backward pass does with a gradient of -q for
values that are the keys. That backward pass makes the probabilities again from q, k and the log-sum-exp
(Dao et al. 2022, §3.1), so the memory is linear in the number of positions.

Shapes: B batch, H heads, T queries, S keys, k head width. q is scaled already.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from aero.entropy.measure import row_entropy

Kernel = Literal["materialised", "blockwise", "library"]

# Rows of one block: its logits stay in a core's cache.
_BLOCK_ROWS = 128
# Up to so many positions, probabilities are kept for the backward pass and not made again.
_KEEP_UP_TO = 256
# From so many positions on, PyTorch's kernel is faster than two products and a softmax; on accelerators, always.
_LIBRARY_FROM = 1024


@dataclass(frozen=True)
class Wanted:
    """What is wanted of every attention row beside the output.

    probabilities: [B, H, T, S]; entropy: in nats, [B, H, T]; log_sum_exp: of the logits, [B, H, T]; lowest: the lowest
    logit that the row sees, [B, H, T].
    """

    probabilities: bool = False
    entropy: bool = False
    log_sum_exp: bool = False
    lowest: bool = False


class Rows(NamedTuple):
    """What was wanted of the rows, as in `Wanted`; None where it was not."""

    probabilities: Tensor | None = None
    entropy: Tensor | None = None
    log_sum_exp: Tensor | None = None
    lowest: Tensor | None = None


def choose_kernel(wanted: Wanted, length: int, device: torch.device, *, masked: bool) -> Kernel:
    """The kernel that is fastest where it serves. masked: is there padding, or a cache?"""
    if masked or wanted.probabilities or wanted.lowest:
        return "materialised"
    if wanted.entropy or wanted.log_sum_exp:
        return "blockwise"
    return "library" if device.type != "cpu" or length >= _LIBRARY_FROM else "materialised"


def attend(q: Tensor, k: Tensor, v: Tensor, kernel: Kernel, wanted: Wanted, mask: Tensor | None) -> tuple[Tensor, Rows]:
    """Softmax(q k^T + mask) v, and what is wanted of its rows. q: [B, H, T, k]; k: [B, H, S, k]; v: [B, H, S, any].

    mask: added to the logits, for the materialised kernel; the others are causal, with T = S, and take none.
    """
    if kernel == "materialised":
        assert mask is not None
        return _materialised(q, k, v, wanted, mask)
    assert mask is None and q.shape[2] == k.shape[2]
    assert not (wanted.probabilities or wanted.lowest), "these exist in the materialised kernel alone"
    if kernel == "library":
        assert not (wanted.entropy or wanted.log_sum_exp)
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1.0), Rows()
    output, log_sum_exp, entropy = blockwise(q, k, v)
    rows = Rows(
        entropy=entropy if wanted.entropy else None,
        log_sum_exp=log_sum_exp if wanted.log_sum_exp else None,
    )
    return output, rows


def _materialised(q: Tensor, k: Tensor, v: Tensor, wanted: Wanted, mask: Tensor) -> tuple[Tensor, Rows]:
    # Adding the mask in place spares a copy of the logits, and its gradient is the identity.
    logits = (q @ k.transpose(-1, -2)).add_(mask.to(q.dtype))
    probabilities = logits.softmax(dim=-1)
    rows = Rows(
        probabilities=probabilities if wanted.probabilities else None,
        entropy=row_entropy(probabilities) if wanted.entropy else None,
        log_sum_exp=_exact(logits).logsumexp(-1) if wanted.log_sum_exp else None,
        lowest=_exact(logits).masked_fill(mask < 0, math.inf).amin(-1) if wanted.lowest else None,
    )
    return probabilities @ v, rows


def _exact(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def blockwise(
    q: Tensor, k: Tensor, v: Tensor, *, block_rows: int = _BLOCK_ROWS, keep: bool | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Causal attention [B, H, T, k], and of every row log-sum-exp and entropy [B, H, T], in float32 or float64.

    keep: keep the probabilities for the backward pass, or make them again; by default, keep those of short texts.
    The gradient can be taken once.
    """
    keep = q.shape[2] <= _KEEP_UP_TO if keep is None else keep
    output, log_sum_exp, entropy = _Blockwise.apply(q, k, v, block_rows, keep)
    return output, log_sum_exp, entropy


class _Blockwise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, block_rows: int, keep: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        length = q.shape[2]
        exact = torch.float64 if q.dtype == torch.float64 else torch.float32
        output = q.new_empty(*q.shape[:3], v.shape[3])
        mean_key = torch.empty_like(q)
        log_sum_exp = q.new_empty(q.shape[:3], dtype=exact)
        kept = []
        with torch.autocast(q.device.type, enabled=False):
            for start, stop in _blocks(length, block_rows):
                logits = q[:, :, start:stop] @ k[:, :, :stop].transpose(-1, -2)
                p = logits.add_(_mask(start, stop, logits)).softmax(-1)
                # The largest probability is at least 1/S, so its logarithm is accurate.
                log_sum_exp[:, :, start:stop] = logits.amax(-1).to(exact) - p.amax(-1).to(exact).log()
                output[:, :, start:stop] = p @ v[:, :, :stop]
                mean_key[:, :, start:stop] = p @ k[:, :, :stop]
                if keep:
                    kept.append(p)
            mean_logit = (q.to(exact) * mean_key.to(exact)).sum(-1)
        ctx.save_for_backward(q, k, v, output, log_sum_exp, mean_logit, *kept)
        ctx.block_rows = block_rows
        ctx.set_materialize_grads(False)
        return output, log_sum_exp, (log_sum_exp - mean_logit).clamp_(min=0)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, d_output: Tensor | None, d_log_sum_exp: Tensor | None, d_entropy: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        q, k, v, output, log_sum_exp, mean_logit, *kept = ctx.saved_tensors
        exact, blocks = log_sum_exp.dtype, _blocks(q.shape[2], ctx.block_rows)
        d_output = torch.zeros_like(output) if d_output is None else d_output.contiguous()
        # dz = p (left . right - row): for the output, dO . v - dO . O; the statistics join in.
        row = (d_output.to(exact) * output.to(exact)).sum(-1)
        left, right = d_output, v
        if d_log_sum_exp is not None:
            row = row - d_log_sum_exp
        if d_entropy is not None:
            row = row - d_entropy * mean_logit
            left = torch.cat([left, (-d_entropy[..., None] * q).to(q.dtype)], dim=-1)
            right = torch.cat([right, k], dim=-1)
        row = row.to(q.dtype)  # as exact as what it is subtracted from
        d_q = torch.empty_like(q)
        sums = q.dtype if len(blocks) == 1 else exact  # of several blocks
        d_k, d_v = torch.zeros_like(k, dtype=sums), torch.zeros_like(v, dtype=sums)
        for index, (start, stop) in enumerate(blocks):
            if kept:
                p = kept[index]
            else:
                logits = q[:, :, start:stop] @ k[:, :, :stop].transpose(-1, -2)
                logits = logits.add_(_mask(start, stop, logits))
                p = (logits - log_sum_exp[:, :, start:stop, None]).exp_().to(q.dtype)
            d_logits = left[:, :, start:stop] @ right[:, :, :stop].transpose(-1, -2)
            d_logits = d_logits.sub_(row[:, :, start:stop, None]).mul_(p)
            d_v[:, :, :stop] += p.transpose(-1, -2) @ d_output[:, :, start:stop]
            d_k[:, :, :stop] += d_logits.transpose(-1, -2) @ q[:, :, start:stop]
            d_q[:, :, start:stop] = d_logits @ k[:, :, :stop]
        return d_q, d_k.to(k.dtype), d_v.to(v.dtype), None, None


def _blocks(length: int, rows: int) -> list[tuple[int, int]]:
    return [(start, min(start + rows, length)) for start in range(0, length, rows)]


def _mask(start: int, stop: int, like: Tensor) -> Tensor:
    """[rows, keys] to add to logits: -inf at the keys up to `stop` that rows `start` to `stop` must not see."""
    return like.new_full((stop - start, stop), -math.inf).triu_(start + 1)
