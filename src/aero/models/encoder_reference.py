"""Hugging Face's own encoder of a checkpoint, filled strictly from its files: what a conversion is compared with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from aero.files.reading import interpreting, present, read_json
from aero.models.checkpoint import fill, plain_names, read_tensors
from aero.models.families import ENCODERS, EncoderFamily
from aero.models.reference import float_types, one_line, read_config

_HEADS = ("classifier", "pre_classifier", "cls", "vocab_transform", "vocab_layer_norm", "vocab_projector")
_OLD_NAMES = {".gamma": ".weight", ".beta": ".bias"}  # that norms had in files from TensorFlow
_OF_TEXTS = "ForSequenceClassification"
_WITHOUT_HEAD = ("Model", "ForMaskedLM", "ForPreTraining")
_POSITIONS = re.compile(r".*\.position_ids")  # 0, 1, 2, ...


@dataclass(frozen=True)
class EncoderReference:
    """model: in float32, for evaluation, with the tensors of the files and no others. fields: of the structure. labels:
    of a classifier's classes, none of an embedding. normalize: whether embeddings are brought to length one. notes:
    what a user should know of how it was read, a sentence each."""

    model: Any
    family: EncoderFamily
    fields: Mapping[str, Any]
    labels: tuple[str, ...]
    normalize: bool
    notes: tuple[str, ...]


def read_encoder(folder: Path, pooling: str | None = None) -> EncoderReference:
    """The encoder of a folder with config.json and weights, of one of `aero.models.families.ENCODERS`.

    What its class is decides: a classifier of texts is one, of others the head is left out, and the output is an
    embedding. pooling: how that is made, "mean" or "first"; by default as the folder's sentence-transformers files say,
    else "mean". FileNotFoundError or ValueError say what is missing, superfluous, not usable, or cannot be converted.
    """
    config = read_config(folder)
    family = ENCODERS[config.model_type]
    architecture = (config.architectures or _WITHOUT_HEAD)[0]
    classifies = architecture.endswith(_OF_TEXTS)
    if not classifies and not architecture.endswith(_WITHOUT_HEAD):
        raise ValueError(f"cannot convert a {architecture}, which does not answer for a whole text")
    fields = family.fields(config, classifies)
    tensors = plain_names(read_tensors(folder), family.base, folder, _HEADS)
    for old, new in _OLD_NAMES.items():
        tensors = {n.removesuffix(old) + new if n.endswith(old) else n: t for n, t in tensors.items()}
    tensors = {name: tensor for name, tensor in tensors.items() if not _POSITIONS.fullmatch(name)}
    notes, normalize = list(float_types(tensors)), False
    if classifies:
        if pooling is not None:
            raise ValueError(f"a classifier's pooling is its own; {folder} takes no other")
        if config.num_labels < 2 or getattr(config, "problem_type", None) not in (None, "single_label_classification"):
            raise ValueError(f"cannot convert a {architecture} that does not choose one of several classes")
    else:
        tensors, left_out = _without_head(tensors, family)
        notes += left_out
        with interpreting(f"what {folder} says of sentence embeddings", "get its JSON files again"):
            made, normalize, sentences = _sentences(folder)
        fields |= {
            "pooling": pooling or made or "mean",
            "context": min(sentences or fields["context"], fields["context"]),
        }
        notes.append(f"the embedding of a text is {_described(fields['pooling'], normalize)}")
    try:
        model = (family.classifier if classifies else family.model)(config).eval()
    except Exception as error:  # whatever transformers finds wrong with a configuration
        raise ValueError(f"{folder}/config.json makes no model: {one_line(error)}") from None
    fill(model, tensors, folder)
    labels = tuple(str(config.id2label[i]) for i in range(config.num_labels)) if classifies else ()
    return EncoderReference(model, family, fields, labels, normalize, tuple(notes))


def _without_head(tensors: Mapping[str, Tensor], family: EncoderFamily) -> tuple[dict[str, Tensor], list[str]]:
    """By the names of the class without a head; and what was left out."""
    kept = {name: tensor for name, tensor in tensors.items() if not re.fullmatch(family.others, name)}
    parts = sorted({name.removeprefix(f"{family.base}.").split(".")[0] for name in set(tensors) - set(kept)})
    notes = [f"left out, as embeddings do not need it: {', '.join(parts)}"] if parts else []
    return {name.removeprefix(f"{family.base}."): tensor for name, tensor in kept.items()}, notes


def _described(pooling: str, normalize: bool) -> str:
    rows = "the mean of its tokens' vectors" if pooling == "mean" else "its first token's vector"
    return rows + (", at length one" if normalize else "")


def _sentences(folder: Path) -> tuple[str | None, bool, int | None]:
    """What sentence-transformers' files say, where there are some: how the embedding is made, whether it is brought to
    length one, and the most tokens. ValueError for what else may follow an encoder there."""
    if not present(folder / "modules.json"):
        return None, False, None
    pooling, normalize = None, False
    for module in read_json(folder / "modules.json"):
        kind = str(module["type"]).rpartition(".")[2]
        if kind == "Pooling":
            said = read_json(folder / module["path"] / "config.json")
            modes = {name for name, value in said.items() if name.startswith("pooling_mode") and value}
            known = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "first"}
            if len(modes) != 1 or modes - set(known):
                raise ValueError(f"{folder} pools by {', '.join(sorted(modes))}; convertible: {', '.join(known)}")
            pooling = known[modes.pop()]
        elif kind == "Normalize":
            normalize = True
        elif kind != "Transformer":
            raise ValueError(f"{folder} has a module {kind} after the encoder, which cannot be converted")
    limits = folder / "sentence_bert_config.json"
    longest = read_json(limits).get("max_seq_length") if present(limits) else None
    return pooling, normalize, longest
