"""An encoder of Hugging Face's as a run folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aero.compiler.import_encoder import difference, import_encoder
from aero.data import tokenizer
from aero.data.tokenizer import Tokenizer, declared
from aero.files.atomic import new_folder, write_text
from aero.files.reading import foreign, present, read_bytes
from aero.models.encoder_reference import read_encoder
from aero.train.imported import info_of
from aero.train.run_folder import FILE, RunInfo


@dataclass(frozen=True)
class ImportedEncoder:
    """As `aero.train.imported.Imported`; error: of an output."""

    info: RunInfo
    error: float
    notes: tuple[str, ...]


def import_encoder_checkpoint(
    folder: Path, source: str, out: Path, *, pooling: str | None = None, force: bool = False
) -> ImportedEncoder:
    """Convert the checkpoint in `folder`, named `source` in what is written, into the run folder `out`.

    Outputs of both models on random texts are compared, theirs with the tensors of the files alone. ValueError as
    `read_encoder`, for a tokenizer that is not read, or outputs that differ.
    """
    tokens = _tokenizer(folder)
    reference = read_encoder(folder, pooling)
    model = import_encoder(reference)
    if model.structure.vocab_size < tokens.vocab_size:
        raise ValueError(
            f"{source} has {model.structure.vocab_size} words, its tokenizer {tokens.vocab_size}; use one that fits"
        )
    error = difference(model, reference)
    info = info_of(model.notation, model.structure.context, model.parameters, source)
    with new_folder(out, FILE, force) as run:
        model.save(run)
        tokens.save(run / tokenizer.FILE)
        write_text(run / tokenizer.CONFIG_FILE, json.dumps(_about(folder, info.context), indent=2) + "\n")
        info.write(run)
    return ImportedEncoder(info, error, reference.notes)


def _about(folder: Path, context: int) -> Mapping[str, Any]:
    """What Hugging Face's AutoTokenizer wants to know beside tokenizer.json."""
    names = declared(folder / "special_tokens_map.json") | declared(folder / tokenizer.CONFIG_FILE)
    return {"tokenizer_class": "PreTrainedTokenizerFast", **names, "model_max_length": context}


def _tokenizer(folder: Path) -> Tokenizer:
    """Of tokenizer.json, or of a vocabulary alone, by transformers. ValueError for one that is not read."""
    if present(folder / tokenizer.FILE) or not present(folder / "vocab.txt"):
        missing = f"no tokenizer: {folder / tokenizer.FILE} does not exist"
        data = read_bytes(folder / tokenizer.FILE, missing, tokenizer.MAX_FILE_BYTES)
    else:
        from transformers import AutoTokenizer

        with foreign(f"the vocabulary in {folder}"):
            made: Any = AutoTokenizer.from_pretrained(folder)
            data = made.backend_tokenizer.to_str().encode("utf-8")
    try:
        return Tokenizer.from_bytes(data)
    except ValueError as error:
        raise ValueError(f"the tokenizer in {folder} is not one that AERO reads: {error}") from None
