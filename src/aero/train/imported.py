"""A checkpoint of Hugging Face's as a run folder, as if it had been trained here."""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

import aero
from aero.data import chat_template, tokenizer
from aero.data.hub import snapshot
from aero.files.atomic import check_replaceable, new_folder, write_text
from aero.files.reading import present
from aero.models import AeroForCausalLM
from aero.models.convert_hf import convert
from aero.models.reference import read_reference
from aero.train.imported_tokenizer import end_tokens, read_tokenizer
from aero.train.run_folder import FILE, RunInfo

_TOKENS = 64  # of the random text on which the two models are compared
_FILES = (
    "*.json",
    "merges.txt",
    "vocab.txt",
    chat_template.FILE,
    "*.safetensors",
)  # what is read of a model's place on the Hub


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
    folder = checkpoint_folder(source)
    read = read_tokenizer(folder)
    reference = read_reference(folder)
    ours = convert(reference.model)
    if ours.config.vocab_size < read.tokens.vocab_size:
        raise ValueError(
            f"{source} has {ours.config.vocab_size} words, its tokenizer {read.tokens.vocab_size}; use one that fits"
        )
    error = _difference(reference.model, ours)
    ends = end_tokens(folder, reference.model.config, read.tokens)
    tokens = read.with_ends(ends.ids)
    _set_special(ours, reference.model.config, ends.ids, tokens.vocab_size)
    chats = chat_template.load(folder, read.declared)
    about = tokenizer.hugging_face_config(tokens, ours.config.context, read.declared.get("bos_token"))
    if chats is not None:  # it names tokens as its files declare them, and has no text for one that they do not
        about |= {"bos_token": None} | {n: w for n, w in read.declared.items() if n != "eos_token" and tokens.id_of(w)}
    info = info_of(str(ours.config.notation), ours.config.context, ours.num_parameters(), source)
    with new_folder(out, FILE, force) as run:
        ours.save_pretrained(run)
        tokens.save(run / tokenizer.FILE)
        write_text(run / tokenizer.CONFIG_FILE, json.dumps(about, indent=2) + "\n")
        if chats is not None:
            write_text(run / chat_template.FILE, chats.source)
        info.write(run)
    chat = () if chats is None else ("conversations follow its own chat template",)
    return Imported(info, error, (*reference.notes, *read.notes, ends.note, *chat))


def info_of(notation: str, context: int, parameters: int, source: str) -> RunInfo:
    """What run.json says of a model that was converted and not trained here."""
    return RunInfo(
        notation=notation,
        context=context,
        parameters=parameters,
        settings=None,
        data=None,
        versions=versions(),
        status="finished",
        source=source,
    )


def versions() -> dict[str, str]:
    """Of what converts, for run.json."""
    return {
        "aero": aero.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def checkpoint_folder(source: str) -> Path:
    """A local folder, or a copy of what the Hugging Face Hub has of that name. ConnectionError where that is needed and
    cannot be reached."""
    return Path(source) if present(Path(source)) else _downloaded(source)


def _downloaded(name: str) -> Path:
    """A copy of what the Hub has of that name, in its cache."""
    folder = snapshot("model", name, _FILES)
    return folder if any(folder.glob("*.safetensors")) else snapshot("model", name, (*_FILES, "*.bin"))


def _set_special(ours: AeroForCausalLM, theirs: Any, ends: tuple[int, ...], vocabulary: int) -> None:
    """Tell the model, and Hugging Face's `generate`, which tokens are special."""
    ids: dict[str, Any] = {"eos_token_id": ends[0] if len(ends) == 1 else list(ends) or None}
    for name in ("bos_token_id", "pad_token_id"):
        number = getattr(theirs, name, None)
        ids[name] = number if isinstance(number, int) and 0 <= number < vocabulary else None
    for name, value in ids.items():
        setattr(ours.config, name, value)
        setattr(ours.generation_config, name, value)


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
