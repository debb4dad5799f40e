"""A checkpoint of Hugging Face's GPT-2 or GPT-NeoX (Pythia) as a run folder, as if it had been trained here."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import snapshot_download

import aero
from aero.data import tokenizer
from aero.data.hub import reach
from aero.files.atomic import check_replaceable, new_folder
from aero.models import AeroForCausalLM
from aero.models.convert_hf import convert
from aero.models.reference import read_reference
from aero.train.run_folder import FILE, RunInfo

_TOKENS = 64  # of the random text on which the two models are compared
# What of a model's place on the Hub is read; other forms of the weights stay there.
_FILES, _BINARY = ("*.json", "merges.txt", "*.safetensors"), ("*.bin",)


@dataclass(frozen=True)
class Imported:
    """info: what run.json says; error: the largest difference of a logit from Hugging Face's own model, relative to the
    largest logit; notes: how the checkpoint was read, where that is not what its files say at first sight."""

    info: RunInfo
    error: float
    notes: tuple[str, ...]


def import_checkpoint(source: str, out: Path, force: bool = False) -> Imported:
    """Convert the checkpoint in a local folder, or of that name on the Hugging Face Hub, into the run folder `out`.

    The logits of both models on a random text are compared, theirs with the tensors of the files alone. Raises
    ValueError for another kind of model, one that AERO's decoder cannot express, a checkpoint whose tensors are not
    those of its model (`aero.models.reference`), a tokenizer that does not give back every text, or logits that differ;
    ConnectionError where the Hub is needed and cannot be reached.
    """
    check_replaceable(out, FILE, force)
    folder = _folder(source)
    tokens = tokenizer.find(source)
    reference = read_reference(folder)
    ours = convert(reference.model)
    if ours.config.vocab_size < tokens.vocab_size:
        raise ValueError(
            f"{source} has {ours.config.vocab_size} words, and its tokenizer {tokens.vocab_size}; use one that fits"
        )
    error = _difference(reference.model, ours)
    ours.config.bos_token_id = ours.config.eos_token_id = tokens.end_of_text
    info = RunInfo(
        notation=str(ours.config.notation),
        context=ours.config.context,
        parameters=ours.num_parameters(),
        settings=None,
        data=None,
        versions={
            "aero": aero.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        status="finished",
        source=source,
    )
    with new_folder(out, FILE, force) as run:
        ours.save_pretrained(run)
        tokens.save(run / tokenizer.FILE)
        info.write(run)
    return Imported(info, error, reference.notes)


def _folder(source: str) -> Path:
    """The folder itself, or a copy of what the Hub has of that name, in its cache."""
    if Path(source).exists():
        return Path(source)

    def get(files: tuple[str, ...]) -> Path:
        return Path(snapshot_download(source, allow_patterns=list(files), ignore_patterns=["*/*"]))

    try:
        folder = reach(f"the model {source}", "model", source, lambda: get(_FILES))
        if not any(folder.glob("*.safetensors")):
            reach(f"the model {source}", "model", source, lambda: get(_BINARY))
    except ConnectionError:
        raise
    except Exception as error:  # the library raises many kinds
        raise ValueError(f"no model {source!r}, neither a folder nor on the Hub: {error}") from None
    return folder


@torch.inference_mode()
def _difference(theirs: Any, ours: AeroForCausalLM) -> float:
    length = min(_TOKENS, ours.config.context)
    ids = torch.randint(ours.config.vocab_size, (1, length), generator=torch.Generator().manual_seed(0))
    expected, found = theirs(ids).logits, ours(ids).logits
    if not torch.isfinite(expected).all():
        raise ValueError("the checkpoint's own logits are not finite in float32; its weights are damaged or too large")
    # Where all are zero, so are ours.
    error = float((found - expected).abs().max() / expected.abs().max().clamp(min=torch.finfo(expected.dtype).tiny))
    # Roundings of float32 through tens of layers; a wrong weight shows at once.
    if not error < 1e-3:
        raise ValueError(f"the converted model's logits differ by {error:.2g}; this is a bug in aero, please report it")
    return error
