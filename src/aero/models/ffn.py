"""The feed-forward network: two matrices with an activation between them, and perhaps a gate; or one matrix
(Jha & Reagen 2024, §3).

Scaling (alpha, beta) and pruning belong to the block around it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aero.models.configuration_aero import AeroConfig
from aero.models.notation import Ffn
from aero.models.residual import ResidualLinear

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": partial(F.gelu, approximate="tanh"),
    "gelu_erf": F.gelu,
    "silu": F.silu,
    "relu": F.relu,
    "identity": lambda x: x,
}


# Where leaky ReLU's slope starts (He et al. 2015, §2): far enough from ReLU's zero to see whether it goes there.
INITIAL_SLOPE = 0.25


class PlainFFN(nn.Module):
    """act(X W_in) W_out, or gated (act(X W_gate) * X W_in) W_out: [..., d] -> [..., d], through ffn_width features.

    negative_slope: [1], of leaky ReLU with a slope for each layer; None for others.
    """

    def __init__(self, config: AeroConfig, *, gated: bool = False) -> None:
        super().__init__()
        width, inner, bias = config.hidden_size, config.ffn_width, config.ffn_bias
        self.activation_name = config.activation
        self.w_in = nn.Linear(width, inner, bias=bias)
        self.w_gate = nn.Linear(width, inner, bias=bias) if gated else None
        self.w_out = ResidualLinear(inner, width, bias=bias)
        own = config.activation == "leaky_relu"
        self.negative_slope = nn.Parameter(torch.full((1,), INITIAL_SLOPE)) if own else None

    def forward(self, x: Tensor, slope: Tensor | None = None) -> Tensor:
        """slope: [1], of a leaky ReLU that all layers share."""
        return self.w_out(self.features(x, slope))

    def features(self, x: Tensor, slope: Tensor | None = None) -> Tensor:
        """What W_out reads, [..., ffn_width]."""
        y = self.w_in(x)
        activated = self._activation(y if self.w_gate is None else self.w_gate(x), slope)
        return activated if self.w_gate is None else activated * y

    def _activation(self, y: Tensor, slope: Tensor | None) -> Tensor:
        slope = self.negative_slope if slope is None else slope
        if slope is not None:
            return torch.where(y > 0, y, slope.to(y.dtype) * y)
        return _ACTIVATIONS[self.activation_name](y)


class FusedFFN(nn.Module):
    """X W: [..., d] -> [..., d], what two matrices with nothing between them come to."""

    def __init__(self, config: AeroConfig) -> None:
        super().__init__()
        self.w = ResidualLinear(config.hidden_size, config.hidden_size, bias=config.ffn_bias)

    def forward(self, x: Tensor, slope: Tensor | None = None) -> Tensor:
        return self.w(self.features(x))

    def features(self, x: Tensor, slope: Tensor | None = None) -> Tensor:
        """What W reads: x itself."""
        return x


def make_ffn(config: AeroConfig, form: Ffn) -> PlainFFN | FusedFFN | None:
    """The FFN of one layer; None where it is pruned."""
    if form == "absent":
        return None
    if form in ("fused", "scaled_fused"):
        return FusedFFN(config)
    return PlainFFN(config, gated=form in ("gated", "scaled_gated"))
