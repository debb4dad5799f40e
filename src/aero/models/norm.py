"""What stands before attention, before the FFN and at the end: LayerNorm, or nothing."""

from __future__ import annotations

from torch import nn

from aero.models.configuration_aero import AeroConfig


def make_norm(config: AeroConfig) -> nn.Module:
    """[..., d] -> [..., d]; nn.Identity for the LN-free models."""
    if config.norm == "none":
        return nn.Identity()
    return nn.LayerNorm(config.hidden_size, eps=config.norm_eps)
