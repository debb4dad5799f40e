"""Model sizes as data, and the rule by which models of any size are scaled for training. Needs no torch.

An LN-free model whose residual stream starts too small never wakes its attention, and an LN model of small width with
tied embeddings starts with logits too flat: two public constants, which fold into weights and cost nothing at
inference, repair both. Compare architectures only with the scale that each needs. "width" gives them by the rule, for
any width; "gpt2" gives GPT-2's own, 1 and 1, as the papers have them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from aero.models.notation import Activation, Notation

Scale = Literal["width", "gpt2"]
Family = Literal["gpt2", "gpt_neox", "llama", "qwen2", "qwen3", "bert"]
Positions = Literal["learned", "rotary"]


@dataclass(frozen=True)
class Traits:
    """What a family has in common beside the notation.

    fields: of an AeroConfig; gelu: the form that it gives GELU; rungs: notations, from what its models keep down to
    neither norm nor smooth activation, the first step of the ladder.
    """

    fields: Mapping[str, Any] = field(default_factory=dict)
    gelu: Activation = "gelu"
    rungs: Sequence[str] = ("SM+LN+G", "SM+LN+R", "SM+FLN+R", "SM+R")


# Touvron et al. 2023, §2.2; Qwen2 adds biases of queries, keys and values, Qwen3 norms of queries and keys.
_LLAMA = {"positions": "rotary", "rotary_fraction": 1.0, "qkv_bias": False, "o_bias": False, "ffn_bias": False}
_LLAMA_RUNGS = ("SM+RMS+SiLU+GaFFN", "SM+RMS+R+GaFFN", "SM+RMS+R", "SM+FRMS+R", "SM+R")
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
    "llama": Traits(_LLAMA, rungs=_LLAMA_RUNGS),
    "qwen2": Traits({**_LLAMA, "qkv_bias": True}, rungs=_LLAMA_RUNGS),
    "qwen3": Traits({**_LLAMA, "qk_norm": True}, rungs=_LLAMA_RUNGS),
}


@dataclass(frozen=True)
class Size:
    """The shape of a decoder, or an encoder, without its architecture.

    context: T, the most positions it sees; hidden_size: d; family: of `TRAITS`, or "bert", an encoder; num_key_heads,
    head_width, ffn_width: as in AeroConfig; classes: of an encoder that classifies texts, 0 for one that gives
    embeddings; fields: what else this size has of its own, fields of an AeroConfig.
    """

    vocab_size: int
    context: int
    num_layers: int
    num_heads: int
    hidden_size: int
    family: Family = "gpt2"
    num_key_heads: int = 0
    head_width: int = 0
    ffn_width: int = 0
    classes: int = 0
    fields: Mapping[str, Any] = field(default_factory=dict, hash=False)


SIZES: dict[str, Size] = {
    # Small enough to train in a minute or two and to run privately in seconds per token.
    "demo": Size(2048, 64, 2, 2, 64),
    # A study of architectures on a laptop: some minutes of training on one core.
    "nano": Size(4096, 128, 6, 4, 128),
    # The same in Llama's shape, heads of keys being shared by two; FFNs are as wide as TinyLlama's, 11/4 d.
    "demo-llama": Size(2048, 64, 2, 2, 64, family="llama", num_key_heads=1, ffn_width=176),
    "nano-llama": Size(4096, 128, 6, 4, 128, family="llama", num_key_heads=2, ffn_width=352),
    # The papers' models (Jha & Reagen 2024, §4), with the tokenizer of its CodeParrot runs.
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
    # As their checkpoints say, as SM+RMS+SiLU+GaFFN; but for the context, which is longer there: 2,048 tokens are many
    # for a private session.
    "smollm2-135m": Size(
        49_152, 2048, 30, 9, 576, family="llama", num_key_heads=3, ffn_width=1536, fields={"rotary_base": 100_000.0}
    ),
    "tinyllama-1.1b": Size(
        32_000, 2048, 22, 32, 2048, family="llama", num_key_heads=4, ffn_width=5632, fields={"tie_embeddings": False}
    ),
    "llama-3.2-1b": Size(
        128_256, 2048, 16, 32, 2048, family="llama", num_key_heads=8, ffn_width=8192,
        fields={
            "rotary_base": 500_000.0,
            "rotary_scaling": {"factor": 32.0, "low": 1.0, "high": 4.0, "original": 8192.0},
        },
    ),
    "qwen2.5-0.5b": Size(
        151_936, 2048, 24, 14, 896, family="qwen2", num_key_heads=2, ffn_width=4864,
        fields={"rotary_base": 1_000_000.0, "norm_eps": 1e-6},
    ),
    "qwen3-0.6b": Size(
        151_936, 2048, 28, 16, 1024, family="qwen3", num_key_heads=8, head_width=128, ffn_width=3072,
        fields={"rotary_base": 1_000_000.0, "norm_eps": 1e-6},
    ),
    # Devlin et al. 2019, §3, for two classes, at the length for which two-party systems report it; and MiniLM (Wang et
    # al. 2020) as sentence-transformers publish it.
    "bert-base": Size(30_522, 128, 12, 12, 768, family="bert", classes=2),
    "minilm-l6": Size(30_522, 256, 6, 12, 384, family="bert"),
}  # fmt: skip


def size(name: str) -> Size:
    """The size of that name. Raises ValueError, listing the known ones."""
    if name not in SIZES:
        raise ValueError(f"unknown size {name!r}; known: {', '.join(SIZES)}")
    return SIZES[name]


def traits_of(shape: Size) -> Traits:
    """Of its family. ValueError for an encoder's size."""
    if shape.family not in TRAITS:
        raise ValueError("this is the size of an encoder, which is imported and not trained; choose a decoder's")
    return TRAITS[shape.family]


BASE_WIDTH, BASE_DEPTH = 64, 2
"""The width and the number of layers at which the rule's constants and the default learning rates were found."""


def by_width(layer_norm: bool, hidden_size: int) -> tuple[float, float]:
    """Multipliers of embeddings and logits for any width, embeddings being tied and of standard deviation 0.02.

    As in muP (Yang et al. 2022, table 8), what enters the residual stream does not depend on the width, and logits are
    multiplied by 1/width: Adam moves each weight as far, so their sum over the width would move in proportion to it.
    Matrices of wide and deep models then learn more slowly: `TrainSettings.base_width` and `base_depth`.
    """
    return (1.0, 16 * BASE_WIDTH / hidden_size) if layer_norm else (64.0, 8 * BASE_WIDTH / hidden_size)


def check_rotary_scaling(scaling: Mapping[str, float]) -> None:
    """ValueError unless it is as `AeroConfig.rotary_scaling` says."""
    names, numbers = set(scaling), [scaling[name] for name in scaling]
    known = names in ({"factor"}, {"factor", "low", "high", "original"})
    if not known or not all(isinstance(n, (int, float)) and 0 < n < math.inf for n in numbers):
        raise ValueError(
            f"rotary_scaling is {dict(scaling)}; give a positive factor, alone or with low, high and original"
        )
    if len(names) > 1 and scaling["low"] >= scaling["high"]:
        raise ValueError(f"rotary_scaling is {dict(scaling)}; give low the smaller of low and high")


def encoder_fields(notation: Notation, shape: Size) -> dict[str, Any]:
    """All fields of an `aero.structure.Encoder` at a size: of BERT, or with another activation of the notation.

    ValueError for what no encoder is.
    """
    if notation != Notation(activation=notation.activation) or notation.activation not in ("gelu", "relu"):
        raise ValueError(f"an encoder is SM+LN+G or SM+LN+R, not {notation}")
    return {
        "vocab_size": shape.vocab_size,
        "context": shape.context,
        "num_layers": shape.num_layers,
        "num_heads": shape.num_heads,
        "hidden_size": shape.hidden_size,
        "intermediate_size": 4 * shape.hidden_size,
        "activation": "gelu_erf" if notation.activation == "gelu" else notation.activation,
        **({"pooling": "first", "pooler": "tanh", "classes": shape.classes} if shape.classes else {}),
    }


def config_fields(
    notation: Notation,
    shape: Size,
    *,
    scale: Scale = "width",
    vocab_size: int | None = None,
    context: int | None = None,
    num_layers: int | None = None,
    hidden_size: int | None = None,
) -> dict[str, Any]:
    """All fields of the AeroConfig of an architecture at a size; the last four replace the size's own.

    scale: of the multipliers, "width", `by_width`, or "gpt2", one. Raises ValueError where they do not fit together,
    and for an encoder's size.
    """
    traits = traits_of(shape)
    if scale not in get_args(Scale):
        raise ValueError(f"scale is {scale!r}; choose one of {', '.join(get_args(Scale))}")
    shape = replace(
        shape,
        vocab_size=vocab_size or shape.vocab_size,
        context=context or shape.context,
        num_layers=num_layers or shape.num_layers,
        hidden_size=hidden_size or shape.hidden_size,
    )
    layer_norm = notation.norm != "none" or notation.block == "simplified"
    embedding, logits = (1.0, 1.0) if scale == "gpt2" else by_width(layer_norm, shape.hidden_size)
    fields = {
        "vocab_size": shape.vocab_size,
        "context": shape.context,
        "num_layers": shape.num_layers,
        "num_heads": shape.num_heads,
        "hidden_size": shape.hidden_size,
        "num_key_heads": shape.num_key_heads,
        "head_width": shape.head_width,
        "ffn_width": shape.ffn_width,
        "embedding_multiplier": embedding,
        "logit_multiplier": logits,
        **notation.config_fields(shape.num_layers),
        **traits.fields,
        **shape.fields,
    }
    if notation.activation == "gelu":
        fields["activation"] = traits.gelu
    return fields
