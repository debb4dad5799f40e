"""Rotary positions: features of queries and keys turned by angles that grow with the position (Su et al. 2021, §3.4).

A product of a query and a key then depends on their distance. Features i and i + n/2 of a head make a pair, n being the
features that are turned (Black et al. 2022, §2.1).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from aero.models.configuration_aero import AeroConfig


def rotary_angles(config: AeroConfig, positions: Tensor) -> Tensor | None:
    """[1 or B, T] -> the angle of each pair, [1 or B, 1, T, n/2], float64; None where positions are not rotary.

    In float64, because an angle of thousands loses in float32 what distinguishes neighbours.
    """
    if config.positions != "rotary":
        return None
    pairs = torch.arange(config.rotary_width // 2, dtype=torch.float64, device=positions.device)
    frequencies = config.rotary_base ** (-2 * pairs / config.rotary_width)
    if config.rotary_scaling is not None:
        frequencies = frequencies * _scaled(frequencies, **config.rotary_scaling)
    return (positions.double()[..., None] * frequencies)[:, None]


def _scaled(frequencies: Tensor, factor: float, low: float = 0.0, high: float = 1.0, original: float = 0.0) -> Tensor:
    """What frequencies are multiplied by: see `AeroConfig.rotary_scaling`."""
    kept = ((original * frequencies / (2 * math.pi) - low) / (high - low)).clamp(0, 1)
    return kept + (1 - kept) / factor


def turn(x: Tensor, angles: Tensor) -> Tensor:
    """x: [B, H, T, k], the first n features of each head turned by the angles [1 or B, 1, T, n/2]."""
    half = angles.shape[-1]
    cosine, sine = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    first, second, rest = x.split([half, half, x.shape[-1] - 2 * half], dim=-1)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine, rest], dim=-1)
