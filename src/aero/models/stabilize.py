"""Stabilisers of Softmax-only models: linear layers whose weight is normalised while it is trained.

    weight_norm     W = g V / |V|, for each output (Salimans & Kingma 2016)
    spectral_norm   W = V / sigma(V), sigma: the largest singular value, by power iteration (Miyato et al. 2018)

Both are parametrisations of torch: the model computes with W, and V is trained. `remove_stabilizer` leaves W itself, so
nothing of them is left at inference. The papers try them at several places (Jha & Reagen 2024, §4.2); FFNs only is best
there.
"""

from __future__ import annotations

from typing import Literal

from torch import nn
from torch.nn.utils import parametrizations, parametrize

Stabilizer = Literal["none", "weight_norm", "spectral_norm"]
Placement = Literal["QK", "FFN", "QK+FFN", "QKV+FFN", "QKVO+FFN"]

_ATTENTION = {"Q": "q_proj", "K": "k_proj", "V": "v_proj", "O": "o_proj"}
_FFN = ("w_in", "w_gate", "w_out", "w")


def stabilize(model: nn.Module, kind: Stabilizer, placement: Placement) -> None:
    """Put a stabiliser on the linear layers of a placement, in place.

    Raises ValueError where the model has no such layer.
    """
    if kind == "none":
        return
    layers = _layers(model, placement)
    if not layers:
        raise ValueError(f"the model has no linear layers at {placement}; choose another placement")
    for layer in layers:
        if kind == "weight_norm":
            parametrizations.weight_norm(layer)
        else:
            parametrizations.spectral_norm(layer)


def remove_stabilizer(model: nn.Module) -> None:
    """Replace each normalised weight by its value, in place. The model is in evaluation mode from then on."""
    model.eval()  # else reading a weight would go on with the power iteration
    for module in list(model.modules()):
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)


def _layers(model: nn.Module, placement: Placement) -> list[nn.Linear]:
    parts = placement.split("+")
    names = [_ATTENTION[letter] for part in parts if part != "FFN" for letter in part]
    names += _FFN if "FFN" in parts else ()
    return [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name.rpartition(".")[2] in names
    ]
