"""What a family of Hugging Face's encoders says of itself, to be converted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from aero.models.families.family import ACTIVATIONS, Named


@dataclass(frozen=True)
class EncoderFamily:
    """A kind of Hugging Face's encoders, and what each is as one of ours, which has no model in torch: it is a graph
    from the beginning (`aero.structure.Encoder`).

    model, classifier: their classes, without a head and with one for whole texts. base: what the tensors' names of one
    with a head begin with. others: names (a regular expression) of tensors of other heads, which are left out.
    fields: of the structure, from a configuration and whether it has a head; ValueError for what cannot be expressed.
    arrays: from a model, by the names that the structure has for them.
    """

    model: Callable[[Any], nn.Module]
    classifier: Callable[[Any], nn.Module]
    base: str
    others: str
    fields: Callable[[Any, bool], dict[str, Any]]
    arrays: Callable[[Any], Named]


def activation_of(kind: str, name: str) -> str:
    """kind: "a BERT". ValueError for one that the structure has not."""
    if name not in ACTIVATIONS:
        raise ValueError(f"cannot convert {kind} with activation {name!r}; convertible: {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def matrix(name: str, layer: nn.Linear) -> Named:
    """[in, out], and the bias."""
    yield f"{name}.w", layer.weight.T
    yield f"{name}.b", layer.bias


def norm(name: str, layer: nn.LayerNorm) -> Named:
    yield f"{name}.gain.w", layer.weight
    yield f"{name}.bias.w", layer.bias


def tables(words: Tensor, positions: Tensor, layer: nn.LayerNorm) -> Named:
    """The embeddings of words and positions, and the norm of their sum."""
    yield "embedding.table", words
    yield "positions.w", positions
    yield from norm("embedding.norm", layer)
