"""Begin with the weights of a model that was trained before: fine-tuning, also into another architecture."""

from __future__ import annotations

from pathlib import Path

import torch

from aero.files import manifest
from aero.files.reading import present
from aero.models.configuration_aero import AeroConfig
from aero.models.modeling_aero import AeroForCausalLM

# What a model may have that the one it starts from had not: it begins as it is initialised.
_NEW = ("log_sigma", "blend", "tracked", "log_temperature", "reg_threshold_weights", "ffn_alpha", "ffn_beta")


def config_for(folder: Path, notation: str) -> AeroConfig:
    """An architecture at the size of the model in a folder. Raises FileNotFoundError where there is none."""
    _require_model(folder)
    return AeroConfig.from_pretrained(folder).with_notation(notation)


def _require_model(folder: Path) -> None:
    if not present(folder / "config.json"):
        raise FileNotFoundError(f"no model at {folder} (config.json is missing)")


@torch.no_grad()
def start_from(model: AeroForCausalLM, folder: Path) -> None:
    """Copy the weights of the model in a folder, in place; what is new keeps its initial value.

    New may be: that norms will be frozen, temperatures, thresholds, scales of FFNs.
    Raises ValueError where the two differ in anything else, or the folder is damaged.
    """
    _require_model(folder)
    manifest.verify(folder)
    source = AeroForCausalLM.from_pretrained(folder)
    assert isinstance(source.config, AeroConfig)
    ours, theirs = model.state_dict(), source.state_dict()
    lost = sorted(set(theirs) - set(ours))
    absent = sorted(name for name in set(ours) - set(theirs) if name.rpartition(".")[2] not in _NEW)
    shapes = sorted(name for name in set(ours) & set(theirs) if ours[name].shape != theirs[name].shape)
    for names, what in ((lost, "has no place for"), (absent, "also needs"), (shapes, "has another shape of")):
        if names:
            raise ValueError(
                f"the model to train {what} {names[0]} of {folder} ({len(names)} such); choose the same size, and an "
                "architecture that only freezes its norms or adds temperatures, thresholds or scales; aero adapt drops "
                "gates, and fuses FFNs or leaves them out"
            )
    for field in ("activation", "num_heads", "embedding_multiplier", "logit_multiplier", "norm_eps", "rotary_base"):
        one, other = getattr(model.config, field), getattr(source.config, field)
        if one != other:
            raise ValueError(f"{field} is {one}, and {other} in {folder}; give the model to train the same")
    model.load_state_dict(theirs, strict=False)
