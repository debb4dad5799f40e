"""Hugging Face's own model of a checkpoint, filled strictly from its files: what a conversion is compared with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig

from aero.files.reading import present, read_json
from aero.models.checkpoint import fill, plain_names, read_tensors
from aero.models.convert_hf import convert_config, family_of
from aero.models.families import ENCODERS, Family

_HEADS = ("lm_head.weight", "embed_out.weight")  # names that GPT-NeoX's output matrix has had
_ROTARY = {
    "rotary_emb_base": "rope_theta",
    "rope_theta": "rope_theta",
    "rotary_pct": "partial_rotary_factor",
    "partial_rotary_factor": "partial_rotary_factor",
}


@dataclass(frozen=True)
class Reference:
    """model: in float32, for evaluation, with the tensors of the files and no others. notes: what a user should know of
    how they were read, a sentence each."""

    model: Any
    notes: tuple[str, ...]


def read_reference(folder: Path) -> Reference:
    """The model of a folder with config.json and weights, of one of `aero.models.families`.

    A checkpoint that says of its output matrix that it is the input embedding and holds another one has its own, as for
    transformers. FileNotFoundError or ValueError say what is missing, superfluous, not usable, or cannot be converted.
    """
    config = read_config(folder)
    ours = convert_config(config)  # what cannot be expressed is refused before anything is built
    family = family_of(config.model_type)
    tensors = plain_names(read_tensors(folder), family.base, folder)
    constants = {name: tensors.pop(name) for name in list(tensors) if re.fullmatch(family.constants, name)}
    notes = float_types(tensors)
    tied = _head(config, family, tensors)
    if tied is not None:
        notes = (*notes, tied)
    if ours.context < config.max_position_embeddings:
        window = f"attention sees a window of {ours.context} tokens, which is the context here"
        notes = (*notes, f"{window}, and not the {config.max_position_embeddings} of config.json")
    try:
        model = family.model(config).eval()
    except Exception as error:  # whatever transformers finds wrong with a configuration
        raise ValueError(f"{folder}/config.json makes no model: {one_line(error)}") from None
    head = next(name for name in model.state_dict() if name in _HEADS)
    fill(model, {head if name in _HEADS else name: tensor for name, tensor in tensors.items()}, folder)
    for name, tensor in constants.items():
        _check_constant(name, tensor, model.get_submodule(family.base), folder)
    return Reference(model, notes)


def is_encoder(folder: Path) -> bool:
    """Whether config.json names a family of encoders."""
    raw = read_json(folder / "config.json") if present(folder / "config.json") else None
    return isinstance(raw, dict) and raw.get("model_type") in ENCODERS


def read_config(folder: Path) -> Any:
    """The configuration, refused where it asks for what transformers' own classes would silently leave out."""
    if not present(folder / "config.json"):
        raise FileNotFoundError(f"no model at {folder} (config.json is missing)")
    raw = read_json(folder / "config.json")
    if not isinstance(raw, dict):
        raise ValueError(f"{folder}/config.json is not a JSON object; get the file again")
    kind = raw.get("model_type")
    if kind not in ENCODERS:
        family_of(kind)
    code = raw.get("auto_map")
    if isinstance(code, dict) and any(name.startswith(("AutoConfig", "AutoModel")) for name in code):
        raise ValueError(f"{folder} brings a model's code of its own (auto_map), which is not run; it may be no {kind}")
    for field in ("quantization_config", "pruned_heads"):
        if raw.get(field):
            raise ValueError(f"{folder}/config.json has {field}, which cannot be converted; save the model without")
    try:
        config = AutoConfig.from_pretrained(folder)
    except Exception as error:  # its validation, or ours of nothing, has many kinds
        raise ValueError(f"{folder}/config.json is not usable: {one_line(error)}") from None
    # Releases of transformers differ in which of several names counts.
    read, written = getattr(config, "rope_parameters", None) or {}, raw.get("rope_parameters") or {}
    for name, meant in _ROTARY.items():
        if name in raw and read and {raw[name]} != {read.get(meant), written.get(meant, raw[name])}:
            raise ValueError(
                f"{folder}/config.json says {name} {raw[name]!r}, and of {meant} something else; say it once, in "
                "rope_parameters"
            )
    return config


def _head(config: Any, family: Family, tensors: dict[str, Tensor]) -> str | None:
    """Put both embeddings into `tensors` where they are one, and say so in the configuration where they are not."""
    heads = [name for name in _HEADS if name in tensors]
    if not config.tie_word_embeddings:
        return None
    if not heads and family.embedding in tensors:
        tensors[_HEADS[0]] = tensors[family.embedding]
    elif heads and family.embedding not in tensors:  # some tools write what is shared under the last name alone
        tensors[family.embedding] = tensors[heads[0]]
    elif heads and not torch.equal(tensors[heads[0]], tensors[family.embedding]):
        config.tie_word_embeddings = False
        return (
            f"config.json says that the embeddings are tied, and the file has another {heads[0]}: converted with an "
            "output matrix of its own, as transformers reads it"
        )
    return None


def float_types(tensors: Mapping[str, Tensor]) -> tuple[str, ...]:
    kinds = {tensor.dtype for tensor in tensors.values()} - {torch.float32}
    exact = {torch.float16, torch.bfloat16}
    return tuple(
        f"weights in {str(kind).removeprefix('torch.')}, {'exactly' if kind in exact else 'rounded'} to float32"
        for kind in sorted(kinds, key=str)
    )


def _check_constant(name: str, tensor: Tensor, base: Any, where: object) -> None:
    """ValueError where a file was made for another mask or other rotary frequencies than its config.json says."""
    if name.endswith(".inv_freq"):
        expected = base.rotary_emb.inv_freq
        # Files in bfloat16 hold them to 8 bits.
        same = tensor.shape == expected.shape and torch.allclose(tensor.float(), expected.float(), rtol=2**-8, atol=0)
    elif name.endswith(".masked_bias"):
        same = tensor.numel() == 1 and float(tensor) <= -1e4
    else:
        mask = tensor.reshape(tensor.shape[-2:]) if tensor.dim() >= 2 else tensor[None]
        same = torch.equal(mask.bool(), torch.ones_like(mask, dtype=torch.bool).tril())
    if not same:
        raise ValueError(f"{where}: {name} is not what config.json makes of it; this model's attention is another")


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())
