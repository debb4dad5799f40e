"""Hugging Face's models to AERO's decoder: the same function, as SM+LN+G (or SM+LN+R)."""

from __future__ import annotations

from typing import Any

import torch

from aero.models.checkpoint import fill
from aero.models.configuration_aero import AeroConfig
from aero.models.families import ENCODERS, FAMILIES, Family
from aero.models.modeling_aero import AeroForCausalLM


def family_of(model_type: Any) -> Family:
    """ValueError where it cannot be converted."""
    if model_type not in FAMILIES:
        raise ValueError(
            f"cannot convert a model of type {model_type!r}; convertible: {', '.join((*FAMILIES, *ENCODERS))}"
        )
    return FAMILIES[model_type]


def convert_config(config: Any) -> AeroConfig:
    """The AeroConfig of a configuration of theirs. ValueError for a variant that AERO's decoder cannot express."""
    return AeroConfig(**family_of(config.model_type).fields(config))


@torch.no_grad()
def convert(source: Any) -> AeroForCausalLM:
    """A new AERO model that computes what a causal language model of theirs does, in the same float type, in evaluation
    mode; the source is not altered. ValueError as for `convert_config`."""
    model = AeroForCausalLM(convert_config(source.config))
    model.to(dtype=source.dtype)  # type: ignore[call-arg]
    parameters = dict(family_of(source.config.model_type).parameters(source))
    fill(model, {**parameters, "lm_head.weight": source.get_output_embeddings().weight}, "the model to convert")
    return model.eval()
