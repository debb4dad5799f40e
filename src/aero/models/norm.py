"""What stands before attention, before FFNs and at the end: LayerNorm, RMSNorm, nothing, or one of the two that ends
as an affine map.

    LayerNorm      (x - mean) / sigma * gain + bias,                 sigma^2 = variance of the row + eps
    RMSNorm        x / rms * gain,                                   rms^2 = mean square of the row + eps
    FrozenNorm     (x - mean) / (sigma^(1-a) * sigma_bar^a) * gain + bias,    or the same without mean and bias

sigma_bar is a constant: exp of the running mean of log sigma, over texts and positions (or for each position). While a
goes from 0 to 1 during training, the norm becomes an affine map of x, which costs nothing nonlinear at inference.
(Removing LayerNorm from trained models by fine-tuning: Heimersheim 2024; one norm after another: arXiv 2507.02559.)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aero.models.configuration_aero import AeroConfig
from aero.models.notation import BEGINS_AS

# Of the running mean, whose memory is some fifty batches; training that has few makes it shorter.
MOMENTUM = 0.02


class RMSNorm(nn.Module):
    """[..., width] -> [..., width] (Zhang & Sennrich 2019, §4); 16-bit numbers are normalised in float32."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        exact = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
        return (exact * (exact.square().mean(-1, keepdim=True) + self.eps).rsqrt() * self.weight).to(x.dtype)


class FrozenNorm(nn.Module):
    """[..., d] -> [..., d]; see the module. blend: a; log_sigma: log of sigma_bar, [1] or [context].

    centred: begins as LayerNorm, not as RMSNorm, which has no bias. The running mean is taken while training with a
    below one, in which each batch has the share `momentum`.
    """

    log_sigma: Tensor
    blend: Tensor
    tracked: Tensor

    def __init__(self, width: int, eps: float, positions: int = 1, *, centred: bool = True) -> None:
        super().__init__()
        self.eps, self.momentum = eps, MOMENTUM
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if centred else None
        self.register_buffer("log_sigma", torch.zeros(positions))
        self.register_buffer("blend", torch.zeros(1))
        self.register_buffer("tracked", torch.zeros(1))  # one after the first batch

    @property
    def frozen(self) -> bool:
        """Is this an affine map by now?"""
        return float(self.blend) == 1

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """x: [B, T, d]; positions: [1 or B, T]."""
        exact = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
        if self.bias is not None:
            exact = exact - exact.mean(-1, keepdim=True)
        if not self.training and self.frozen:  # while training, what is computed does not depend on a value
            log_sigma = self._constant(positions)
        else:
            own = 0.5 * (exact.square().mean(-1, keepdim=True) + self.eps).log()  # [B, T, 1]
            if self.training:
                self._track(own.detach(), positions)
            log_sigma = torch.lerp(
                own, self._constant(positions).to(own.dtype).expand_as(own), self.blend.to(own.dtype)
            )
        y = exact * torch.exp(-log_sigma) * self.weight
        return (y if self.bias is None else y + self.bias).to(x.dtype)

    def _constant(self, positions: Tensor) -> Tensor:
        """log sigma_bar as [1 or B, 1 or T, 1]."""
        return self.log_sigma[positions][..., None] if len(self.log_sigma) > 1 else self.log_sigma[None, None]

    @torch.no_grad()
    def _track(self, own: Tensor, positions: Tensor) -> None:
        share = torch.where(self.tracked > 0, self.momentum, 1.0) * (self.blend < 1)
        share = share.to(self.log_sigma.dtype)
        if len(self.log_sigma) > 1:
            where = positions[0]  # texts of one batch begin at the same position while training
            now = torch.lerp(self.log_sigma[where], own.mean(dim=(0, 2)).to(self.log_sigma.dtype), share)
            self.log_sigma.index_copy_(0, where, now)
        else:
            self.log_sigma.lerp_(own.mean()[None].to(self.log_sigma.dtype), share)
        self.tracked.fill_(1)


def make_norm(config: AeroConfig) -> nn.Module:
    """[..., d] -> [..., d], by `apply_norm`; nn.Identity for the LN-free models."""
    if config.norm == "none":
        return nn.Identity()
    if config.norm == "layer":
        return nn.LayerNorm(config.hidden_size, eps=config.norm_eps)
    if config.norm == "rms":
        return RMSNorm(config.hidden_size, config.norm_eps)
    positions = config.context if config.norm.endswith("per_position") else 1
    return FrozenNorm(config.hidden_size, config.norm_eps, positions, centred=BEGINS_AS[config.norm] == "layer")


def make_head_norm(config: AeroConfig) -> FrozenNorm | RMSNorm | None:
    """Of queries or keys, [..., k] -> [..., k], by `apply_norm`: RMSNorm, frozen where other norms are; or nothing."""
    if not config.qk_norm:
        return None
    if config.norm in BEGINS_AS:
        return FrozenNorm(config.head_width, config.norm_eps, centred=False)
    return RMSNorm(config.head_width, config.norm_eps)


def make_final_norm(config: AeroConfig) -> nn.Module:
    """The norm before the vocabulary projection: the simplified block keeps a LayerNorm there."""
    if config.block == "simplified" and config.norm == "none":
        return nn.LayerNorm(config.hidden_size, eps=config.norm_eps)
    return make_norm(config)


def apply_norm(norm: nn.Module, x: Tensor, positions: Tensor) -> Tensor:
    """x: [B, T, d], or [B, H, T, k] where the norm has no constants by position; positions: [1 or B, T]."""
    out: Tensor = norm(x, positions) if isinstance(norm, FrozenNorm) else norm(x)
    return out


def frozen_norms(model: nn.Module) -> list[FrozenNorm]:
    """Those of a model in the order in which they are best frozen one after another (arXiv 2507.02559, §3).

    Before FFNs first, the shallowest before the deeper; then before attention, and inside it; the last norm last.
    """
    named = [(name, norm) for name, norm in model.named_modules() if isinstance(norm, FrozenNorm)]
    rank = {"norm_2": 0, "norm_1": 1, "q_norm": 2, "k_norm": 2, "final_norm": 3}
    return [norm for _, norm in sorted(named, key=lambda pair: rank[pair[0].rpartition(".")[2]])]
