"""Causal multi-head softmax attention with its projections; `aero.models.attend` computes the softmax.

Shapes: B batch, H heads of queries, H_k of keys and values, T queries, S keys (T plus what the cache holds), d width,
k head width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import Cache

from aero.models.attend import Kernel, Rows, Wanted, attend
from aero.models.configuration_aero import AeroConfig
from aero.models.norm import apply_norm, make_head_norm
from aero.models.residual import ResidualLinear
from aero.models.rotary import turn


@dataclass(frozen=True)
class Call:
    """What one forward pass tells every layer.

    positions: of the queries, [1 or B, T]; mask: added to the logits, broadcast to [B, H, T, S], None where the kernel
    takes none; angles: of rotary positions, [1 or B, 1, T, n/2]; slope: of a leaky ReLU that all layers share, [1].
    """

    positions: Tensor
    kernel: Kernel
    wanted: Wanted
    mask: Tensor | None = None
    cache: Cache | None = None
    angles: Tensor | None = None
    slope: Tensor | None = None


class Projections(nn.Module):
    """Queries and keys: x W_Q / (t sqrt(k)) and x W_K, normalised in each head where the configuration says so, and
    turned where positions are rotary; t = exp(s) is learnable or absent.

    The temperature is held as its logarithm, so that it stays positive, and starts at one unless the configuration says
    otherwise (Jha & Reagen 2025, §4).
    """

    def __init__(self, config: AeroConfig, layer: int) -> None:
        super().__init__()
        d = config.hidden_size
        self.layer = layer
        self.num_heads = config.num_heads
        self.num_key_heads, self.head_width = config.num_key_heads, config.head_width
        self.q_proj = nn.Linear(d, config.num_heads * config.head_width, bias=config.qkv_bias)
        self.k_proj = nn.Linear(d, config.num_key_heads * config.head_width, bias=config.qkv_bias)
        self.q_norm, self.k_norm = make_head_norm(config), make_head_norm(config)
        if config.attention_temperature == "none":
            self.register_parameter("log_temperature", None)
        else:
            columns = 1 if config.attention_temperature == "per_head" else config.context
            self.log_temperature = nn.Parameter(torch.zeros(config.num_heads, columns))

    def temperature(self) -> Tensor | None:
        """t, the divisor of the logits: [H, 1] or [H, context]; None where there is none."""
        return None if self.log_temperature is None else self.log_temperature.exp()

    def queries_and_keys(self, x: Tensor, call: Call) -> tuple[Tensor, Tensor]:
        """[B, T, d] -> [B, H, T, k], scaled, and [B, H_k, T, k]."""
        q, k = self.heads(self.q_proj(x)), self.heads(self.k_proj(x))
        if self.q_norm is not None and self.k_norm is not None:
            q, k = (apply_norm(norm, y, call.positions) for norm, y in ((self.q_norm, q), (self.k_norm, k)))
        q = q * (1 / math.sqrt(self.head_width))
        if self.log_temperature is not None:
            q = q * self._inverse_temperature(call.positions).to(q.dtype)
        if call.angles is not None:
            q, k = turn(q, call.angles), turn(k, call.angles)
        return q, k

    def heads(self, x: Tensor) -> Tensor:
        """[B, T, H k] -> [B, H, T, k], contiguous, as batched products want it; with H_k likewise."""
        return x.unflatten(-1, (-1, self.head_width)).transpose(1, 2).contiguous()

    def _inverse_temperature(self, positions: Tensor) -> Tensor:
        """1/t as [1 or B, H, 1 or T, 1]."""
        assert self.log_temperature is not None
        inverse = torch.exp(-self.log_temperature)
        per_position = inverse.shape[1] > 1
        return (inverse[:, positions].transpose(0, 1) if per_position else inverse[None])[..., None]


class Attention(Projections):
    """Softmax(Q K^T / (t sqrt(k)) + mask) V, heads concatenated, then W_O."""

    def __init__(self, config: AeroConfig, layer: int) -> None:
        super().__init__(config, layer)
        d = config.hidden_size
        self.v_proj = nn.Linear(d, config.num_key_heads * config.head_width, bias=config.qkv_bias)
        self.o_proj = ResidualLinear(config.num_heads * config.head_width, d, bias=config.o_bias)

    def forward(self, x: Tensor, call: Call) -> tuple[Tensor, Rows]:
        """x: [B, T, d] -> output [B, T, d], and what is wanted of the rows."""
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))  # once, and not in each projection
        q, k = self.queries_and_keys(x, call)
        v = self.heads(self.v_proj(x))
        if call.cache is not None:
            k, v = call.cache.update(k, v, self.layer)
        if self.num_key_heads < self.num_heads:  # what the cache holds has few heads
            k, v = (y.repeat_interleave(self.num_heads // self.num_key_heads, dim=1) for y in (k, v))
        mixed, rows = attend(q, k, v, call.kernel, call.wanted, call.mask)
        return self.o_proj(mixed.transpose(1, 2).flatten(2)), rows


def additive_causal_mask(
    length: int, past: int, padding: Tensor | None, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """What to add to the logits so that a query sees itself and what came before: [1 or B, 1, T, S], S = past + T.

    padding: [B, S], zero where a key is padding and must not be seen. Uses the most negative number and not -inf: a
    query that is itself padding sees nothing, and must not become NaN.
    """
    hidden = torch.ones(length, past + length, dtype=torch.bool, device=device).triu_(past + 1)[None, None]
    if padding is not None:
        hidden = hidden | (padding[:, None, None, :] == 0)
    return torch.zeros(hidden.shape, dtype=dtype, device=device).masked_fill_(hidden, torch.finfo(dtype).min)
