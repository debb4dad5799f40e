"""A checkpoint of Hugging Face's GPT-2 or GPT-NeoX (Pythia) as a run folder, as if it had been trained here."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, GPT2LMHeadModel, GPTNeoXForCausalLM

import aero
from aero.data import tokenizer
from aero.data.atomic import check_replaceable
from aero.data.hub import reach
from aero.models import AeroForCausalLM
from aero.models.convert_hf import convert_gpt2, convert_gpt_neox
from aero.train.run_folder import FILE, RunInfo

_FAMILIES: dict[str, tuple[Any, Callable[[Any], AeroForCausalLM]]] = {
    "gpt2": (GPT2LMHeadModel, convert_gpt2),
    "gpt_neox": (GPTNeoXForCausalLM, convert_gpt_neox),
}
_TOKENS = 64  # of the random text on which the two models are compared


def import_checkpoint(source: str, out: Path, force: bool = False) -> tuple[RunInfo, float]:
    """Convert the checkpoint in a local folder, or of that name on the Hugging Face Hub, into the run folder `out`.

    The logits of both models on a random text are compared: returns what run.json says, and the largest difference
    relative to the largest logit. Raises ValueError for another kind of model, one that AERO's decoder cannot express,
    a tokenizer that does not give back every text, or logits that differ; ConnectionError where the Hub is needed and
    cannot be reached.
    """
    check_replaceable(out, FILE, force)
    tokens = tokenizer.find(source)
    config = _load(AutoConfig, source)
    if config.model_type not in _FAMILIES:
        raise ValueError(f"cannot convert a model of type {config.model_type!r}; convertible: {', '.join(_FAMILIES)}")
    family, convert = _FAMILIES[config.model_type]
    theirs = _load(family, source, dtype=torch.float32).eval()
    ours = convert(theirs)
    if ours.config.vocab_size < tokens.vocab_size:
        raise ValueError(
            f"{source} has {ours.config.vocab_size} words, and its tokenizer {tokens.vocab_size}; use one that fits"
        )
    error = _difference(theirs, ours)
    ours.config.bos_token_id = ours.config.eos_token_id = tokens.end_of_text
    if out.exists():
        shutil.rmtree(out)
    out.mkdir(parents=True)
    ours.save_pretrained(out)
    tokens.save(out / tokenizer.FILE)
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
    info.write(out)
    return info, error


def _load(kind: Any, source: str, **settings: Any) -> Any:
    if Path(source).exists():
        return kind.from_pretrained(source, **settings)
    return reach(f"the model {source}", "model", source, lambda: kind.from_pretrained(source, **settings))


@torch.inference_mode()
def _difference(theirs: Any, ours: AeroForCausalLM) -> float:
    length = min(_TOKENS, ours.config.context)
    ids = torch.randint(ours.config.vocab_size, (1, length), generator=torch.Generator().manual_seed(0))
    expected, found = theirs(ids).logits, ours(ids).logits
    error = float((found - expected).abs().max() / expected.abs().max())
    # Roundings of float32 through tens of layers; a wrong weight shows at once.
    if not error < 1e-3:
        raise ValueError(f"the converted model's logits differ by {error:.2g}; this is a bug in aero, please report it")
    return error
