"""Model sizes, and the public multipliers to train them with, as data. Needs no torch.

An LN-free model whose residual stream starts too small never wakes its attention, and an LN model of small width with
tied embeddings starts with logits too flat: two public constants, which fold into weights and cost nothing at
inference, repair both. Compare architectures only with the scale that each needs. "gpt2" gives GPT-2's own, 1 and 1,
by name; "width" gives them for any width by a rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from aero.models.notation import Activation, Notation

Scale = Literal["recommended", "gpt2", "width"]
Family = Literal["gpt2", "gpt_neox"]
Positions = Literal["learned", "rotary"]


@dataclass(frozen=True)
class Traits:
    """What a family has in common beside the notation: fields of an AeroConfig, and the form that it gives GELU."""

    fields: Mapping[str, Any] = field(default_factory=dict)
    gelu: Activation = "gelu"


TRAITS: Mapping[Family, Traits] = {
    "gpt2": Traits(),
    # Black et al. 2022, §2.1.
    "gpt_neox": Traits(
        {
            "positions": "rotary",
            "rotary_fraction": 0.25,
            "rotary_base": 10_000.0,
            "parallel_residual": True,
            "tie_embeddings": False,
        },
        gelu="gelu_erf",
    ),
}


@dataclass(frozen=True)
class Size:
    """The shape of a decoder, without its architecture.

    context: T, the most positions it sees; hidden_size: d; embedding_multiplier: recommended for LN-free models of this
    size; logit_multiplier: recommended for models with LayerNorm; family: of `TRAITS`.
    """

    vocab_size: int
    context: int
    num_layers: int
    num_heads: int
    hidden_size: int
    embedding_multiplier: float = 1.0
    logit_multiplier: float = 1.0
    family: Family = "gpt2"


SIZES: dict[str, Size] = {
    # Small enough to train in a minute or two and to run privately in seconds per token.
    "demo": Size(2048, 64, 2, 2, 64, embedding_multiplier=16, logit_multiplier=16),
    # A study of architectures on a laptop: some minutes of training on one core.
    "nano": Size(4096, 128, 6, 4, 128, embedding_multiplier=16, logit_multiplier=16),
    # The papers' models (Jha & Reagen 2024, §4), with the tokenizer of its CodeParrot runs; multipliers not tuned here.
    "gpt2-small": Size(50_000, 128, 12, 12, 768),
    "gpt2-small-18": Size(50_000, 128, 18, 12, 768),
    "gpt2-medium": Size(50_000, 128, 24, 16, 1024),
    "gpt2-large": Size(50_000, 128, 36, 20, 1280),
    # Biderman et al. 2023, table 1, with the vocabulary of the published checkpoints.
    "pythia-70m": Size(50_304, 2048, 6, 8, 512, family="gpt_neox"),
    "pythia-160m": Size(50_304, 2048, 12, 12, 768, family="gpt_neox"),
    "pythia-410m": Size(50_304, 2048, 24, 16, 1024, family="gpt_neox"),
    # Zhang et al. 2022, table 1: GPT-2's family, as SM+LN+R.
    "opt-125m": Size(50_272, 2048, 12, 12, 768),
}


def size(name: str) -> Size:
    """The size of that name. Raises ValueError, listing the known ones."""
    if name not in SIZES:
        raise ValueError(f"unknown size {name!r}; known: {', '.join(SIZES)}")
    return SIZES[name]


def by_width(layer_norm: bool, hidden_size: int) -> tuple[float, float]:
    """Multipliers of embeddings and logits for any width, embeddings being tied and of standard deviation 0.02.

    As in muP (Yang et al. 2022, table 8), what enters the residual stream does not depend on the width, and logits are
    multiplied by 1/width: Adam moves each weight as far, so their sum over the width would move in proportion to it.
    The constants were found at width 64. Matrices of wide models then learn at a rate of 1/width
    (`TrainSettings.base_width`).
    """
    return (1.0, 1024 / hidden_size) if layer_norm else (32.0, 256 / hidden_size)


def config_fields(
    notation: Notation,
    shape: Size,
    *,
    scale: Scale = "recommended",
    vocab_size: int | None = None,
    context: int | None = None,
    num_layers: int | None = None,
) -> dict[str, Any]:
    """All fields of the AeroConfig of an architecture at a size; the last three replace the size's own.

    scale: of the multipliers, "recommended", the size's own; "gpt2", one; or "width", `by_width`. Raises ValueError
    where they do not fit together.
    """
    if scale not in get_args(Scale):
        raise ValueError(f"scale is {scale!r}; choose one of {', '.join(get_args(Scale))}")
    shape = replace(
        shape,
        vocab_size=vocab_size or shape.vocab_size,
        context=context or shape.context,
        num_layers=num_layers or shape.num_layers,
    )
    layer_norm = notation.norm != "none" or notation.block == "simplified"
    embedding, logits = {
        "recommended": (1.0, shape.logit_multiplier) if layer_norm else (shape.embedding_multiplier, 1.0),
        "gpt2": (1.0, 1.0),
        "width": by_width(layer_norm, shape.hidden_size),
    }[scale]
    traits = TRAITS[shape.family]
    fields = {
        "vocab_size": shape.vocab_size,
        "context": shape.context,
        "num_layers": shape.num_layers,
        "num_heads": shape.num_heads,
        "hidden_size": shape.hidden_size,
        "embedding_multiplier": embedding,
        "logit_multiplier": logits,
        **notation.config_fields(shape.num_layers),
        **traits.fields,
    }
    if notation.activation == "gelu":
        fields["activation"] = traits.gelu
    return fields
