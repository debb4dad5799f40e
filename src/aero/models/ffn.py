"""The feed-forward network: two matrices with an activation between them, or one matrix (Jha & Reagen 2024, §3).

Scaling (alpha, beta) and pruning belong to the block around it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from aero.models.configuration_aero import AeroConfig
from aero.models.notation import Ffn
from aero.models.residual import ResidualLinear

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": partial(F.gelu, approximate="tanh"),
    "gelu_erf": F.gelu,
    "relu": F.relu,
    "identity": lambda x: x,
}


class PlainFFN(nn.Module):
    """act(X W_in) W_out: [..., d] -> [..., d], through ffn_multiplier * d features."""

    def __init__(self, config: AeroConfig) -> None:
        super().__init__()
        inner = config.ffn_multiplier * config.hidden_size
        self.activation_name = config.activation
        self.w_in = nn.Linear(config.hidden_size, inner)
        self.w_out = ResidualLinear(inner, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.w_out(_ACTIVATIONS[self.activation_name](self.w_in(x)))


class FusedFFN(nn.Module):
    """X W: [..., d] -> [..., d], what two matrices with nothing between them come to."""

    def __init__(self, config: AeroConfig) -> None:
        super().__init__()
        self.w = ResidualLinear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.w(x)


def make_ffn(config: AeroConfig, form: Ffn) -> nn.Module | None:
    """The FFN of one layer; None where it is pruned."""
    if form == "absent":
        return None
    return FusedFFN(config) if form in ("fused", "scaled_fused") else PlainFFN(config)
