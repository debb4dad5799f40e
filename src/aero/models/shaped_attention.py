"""The simplified block's attention: no values, no output projection, shaped probabilities (He & Hofmann 2024, §4).

    head h:  (alpha_h I + beta_h A_h - gamma_h C) x_h

x_h: the head's share of the features; A_h: softmax attention; C: uniform causal attention, which is what A_h is as
long as all logits are zero. alpha, beta and gamma are learnable and start at one, queries start at zero, so the block
starts as the identity. There is no skip connection around it: alpha I is one.

Shapes: B batch, H heads, T queries, S keys, d width, k = d/H head width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aero.models.attend import Rows, attend
from aero.models.attention import Call, Projections
from aero.models.configuration_aero import AeroConfig


class ShapedAttention(Projections):
    """See the module. skip, mix, uniform: alpha, beta and gamma, [H]."""

    def __init__(self, config: AeroConfig, layer: int) -> None:
        super().__init__(config, layer)
        self.skip, self.mix, self.uniform = (nn.Parameter(torch.ones(config.num_heads)) for _ in range(3))

    def forward(self, x: Tensor, call: Call) -> tuple[Tensor, Rows]:
        """x: [B, T, d] -> output [B, T, d], and what is wanted of the rows of A."""
        q, k = self.queries_and_keys(x, call)
        own = values = self.heads(x)
        if call.cache is not None:
            k, values = call.cache.update(k, values, self.layer)
        mixed, rows = attend(q, k, values.to(q.dtype), call.kernel, call.wanted, call.mask)
        alpha, beta, gamma = (scale[:, None, None] for scale in (self.skip, self.mix, self.uniform))
        shaped = alpha * own + beta * mixed - gamma * _uniform(values, own.shape[2], call.mask)
        return shaped.transpose(1, 2).flatten(2), rows


def _uniform(values: Tensor, queries: int, mask: Tensor | None) -> Tensor:
    """The mean of the values that each query sees, [B, H, T, k]."""
    if mask is None:
        count = torch.arange(1, queries + 1, dtype=values.dtype, device=values.device)
        return values.cumsum(2) / count[:, None]
    seen = (mask == 0).to(values.dtype)  # [1 or B, 1, T, S]
    return (seen / seen.sum(-1, keepdim=True).clamp(min=1)) @ values
