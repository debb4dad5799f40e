"""Checkpoints, read strictly: every tensor of the files has a place in the model, and every place is filled.

transformers fills what a checkpoint lacks with random numbers and leaves out what it has no place for, with a warning
that is easily missed. Here both are errors that name the tensors.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from aero.files.reading import present, read_json

SAFETENSORS, BINARY = "model.safetensors", "pytorch_model.bin"
_INDEX = ".index.json"  # beside them, where a checkpoint has several files
# Parts of names that torch.compile, DataParallel, FSDP, activation checkpointing and DeepSpeed leave.
_WRAPPERS = {"_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"}
_PEFT = re.compile(r"(^|\.)(base_model|base_layer|modules_to_save|lora_\w+)\.")
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_NAMED = 3  # how many names a message has


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint's files, under the files' names for them; of the kinds of files that transformers
    reads, the first that is there: safetensors or PyTorch's own, in one file or in several with an index.

    FileNotFoundError where there are none; ValueError where a file is damaged, or an index does not name what is there.
    """
    if present(folder / "adapter_config.json"):
        raise ValueError(f"{folder} holds a PEFT adapter; merge it into its model (merge_and_unload), and save that")
    readers: tuple[tuple[str, Callable[[Path], Mapping[str, Tensor]]], ...]
    readers = ((SAFETENSORS, _read_safetensors), (BINARY, _read_binary))
    for name, read in readers:
        if present(folder / name):
            return dict(read(folder / name))
        if present(folder / (name + _INDEX)):
            return _read_shards(folder, folder / (name + _INDEX), read)
    raise FileNotFoundError(f"{folder} holds no weights: neither {SAFETENSORS} nor {BINARY}, nor an index of several")


def plain_names(
    tensors: Mapping[str, Tensor], base: str, where: object, heads: Collection[str] = ("lm_head", "embed_out")
) -> dict[str, Tensor]:
    """The tensors under the names that an unwrapped model has for them. heads: what names outside `base` begin with.

    What wrappers put into names is left out; `base`, the name of the model without its head, is put before names that
    lack it, as those of a model saved without a head do. ValueError for two tensors of one name, and for PEFT's.
    """
    found: dict[str, tuple[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if _PEFT.search(name):
            raise ValueError(f"{where} holds {name}, of a PEFT adapter; merge_and_unload() it, and save the model")
        parts = [part for part in name.split(".") if part not in _WRAPPERS]
        while len(parts) > 1 and (parts[0] == "model" or parts[:2] == [base, base]):
            parts = parts[1:]
        if parts[0] not in (base, *heads):
            parts = [base, *parts]
        plain = ".".join(parts)
        if plain in found:
            raise ValueError(f"{where} holds one tensor twice, as {found[plain][0]} and as {name}; save one of them")
        found[plain] = name, tensor
    return {plain: tensor for plain, (_, tensor) in found.items()}


@torch.no_grad()
def fill(model: nn.Module, tensors: Mapping[str, Tensor], where: object) -> None:
    """Give a model the tensors of its names, in the model's float type, and see that it has them.

    ValueError, with names, where one is missing, has no place or another shape, is no floating-point tensor, or holds
    what is not finite.
    """
    state = model.state_dict()
    check_names(set(state) - set(tensors), set(tensors) - set(state), where)
    shapes = [(name, tuple(tensors[name].shape), tuple(state[name].shape)) for name in state]
    check_shapes([shape for shape in shapes if shape[1] != shape[2]], where)
    if other := [name for name in state if tensors[name].dtype not in _FLOATS]:
        raise ValueError(
            f"{where} holds {_names(other)} as {tensors[other[0]].dtype}, and floating point of 16, 32 or 64 bits is "
            "read; save the model without quantization"
        )
    cast = {name: tensors[name].to(state[name].dtype) for name in state}
    check_finite(cast, where)
    model.load_state_dict(cast, strict=True)
    for name, tensor in model.state_dict().items():
        if not torch.equal(tensor, cast[name]):
            raise RuntimeError(f"{name} was not set to what {where} holds")


def check_loaded(model: Any, info: Mapping[str, Any], where: object) -> None:
    """ValueError, with names, where transformers' own loader set a tensor at random, or left one out.

    model: what it gave; info: what it says of it (its `output_loading_info`).
    """
    check_names(info["missing_keys"], info["unexpected_keys"], where)
    check_shapes(((name, tuple(a), tuple(b)) for name, a, b in info["mismatched_keys"]), where)
    check_finite(model.state_dict(), where)
    inputs, other = model.get_input_embeddings(), model.get_output_embeddings()
    if model.config.tie_word_embeddings and other is not None and not torch.equal(inputs.weight, other.weight):
        raise ValueError(
            f"{where} has an output matrix of its own, and its config.json says that it is the input embedding; use "
            "the config.json that belongs to the weights"
        )


def check_names(missing: Iterable[str], unused: Iterable[str], where: object) -> None:
    """ValueError unless both are empty: names that a checkpoint lacks, and those that its model has no place for."""
    missing, unused = sorted(missing), sorted(unused)
    complaints = []
    if missing:
        complaints.append(f"lacks {_names(missing)}")
    if unused:
        complaints.append(f"holds {_names(unused)}, for which the model of its config.json has no place")
    if complaints:
        raise ValueError(
            f"{where} {', and '.join(complaints)}; save the whole language model, and nothing beside it, with the "
            "config.json that it has"
        )


def check_shapes(different: Iterable[tuple[str, tuple[int, ...], tuple[int, ...]]], where: object) -> None:
    """ValueError unless there are none: names with the shape in the file and the one that the model has."""
    if different := sorted(different):
        name, found, expected = different[0]
        raise ValueError(
            f"{where}: {name} has shape {list(found)}, and {list(expected)} by its config.json "
            f"({len(different)} such); use the config.json that belongs to the weights"
        )


def check_finite(tensors: Mapping[str, Tensor], where: object) -> None:
    """ValueError, with names, where a tensor holds NaN or infinity."""
    if bad := sorted(name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()):
        raise ValueError(f"{where} holds NaN or infinity in {_names(bad)}; it is damaged, use an older one")


def _names(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _read_safetensors(path: Path) -> Mapping[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path} is no safetensors file, or a damaged one ({error}); get it again") from None


def _read_binary(path: Path) -> Mapping[str, Tensor]:
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and torch have many kinds
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{path} is no checkpoint of tensors, or a damaged one ({reason}); get it again") from None
    if not isinstance(found, Mapping):
        raise ValueError(f"{path} holds no tensors by name; save the model's state_dict()")
    if other := [str(name) for name, value in found.items() if not isinstance(value, Tensor)]:
        raise ValueError(f"{path} holds {_names(other)}, which are no tensors; save the model's state_dict() alone")
    return {str(name): value for name, value in found.items()}


def _read_shards(folder: Path, index: Path, read: Callable[[Path], Mapping[str, Tensor]]) -> dict[str, Tensor]:
    try:
        places = read_json(index)["weight_map"]
        files = sorted(set(places.values()))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{index} is not readable ({error!r}); get it again") from None
    tensors: dict[str, Tensor] = {}
    for file in files:
        if not isinstance(file, str) or Path(file).name != file or not present(folder / file):
            raise FileNotFoundError(f"{index} names {file!r}, which is not in its folder; get the missing file")
        found = read(folder / file)
        named = {name for name, place in places.items() if place == file}
        if different := sorted(named ^ set(found)):
            raise ValueError(f"{folder / file} and {index.name} disagree on {_names(different)}; get both again")
        tensors |= found
    return tensors
