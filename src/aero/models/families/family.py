"""What a family of Hugging Face's models says of itself, to be converted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from aero.models.notation import Activation

Named = Iterator[tuple[str, Tensor]]

ACTIVATIONS: dict[str, Activation] = {
    "gelu_new": "gelu",
    "gelu_pytorch_tanh": "gelu",
    "gelu": "gelu_erf",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}


@dataclass(frozen=True)
class Family:
    """A kind of Hugging Face's models, and what each is as one of ours.

    model: their class. base: what its tensors' names begin with. embedding: the input embedding's name.
    fields: those of the AeroConfig of a configuration; ValueError for a variant that AERO's decoder cannot express.
    parameters: all of our model's but its output matrix, by our names, from a model of theirs.
    constants: names (a regular expression) that older files hold beside parameters: causal masks, the number for what
    is masked, rotary frequencies. Nothing is learnt there; transformers makes them of the configuration, and the two
    are compared.
    """

    model: type[Any]
    base: str
    embedding: str
    fields: Callable[[Any], dict[str, Any]]
    parameters: Callable[[Any], Named]
    constants: str = ""


def shared_fields(kind: str, config: Any, width: int, activation: str, inner: str, features: int) -> dict[str, Any]:
    """What every family has. kind: "a GPT-2"; inner: their name for the features inside an FFN, of which it has
    `features`. Dropout is not carried over: AERO trains without it, and it has no part in inference.
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"cannot convert {kind} with activation {activation!r}; convertible: {', '.join(ACTIVATIONS)}")
    if features < 1:
        raise ValueError(f"cannot convert {kind} whose {inner} is {features}; give a whole number of at least 1")
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": width,
        "activation": ACTIVATIONS[activation],
        "ffn_width": features,
        "tie_embeddings": config.tie_word_embeddings,
        "bos_token_id": config.bos_token_id,
        "eos_token_id": config.eos_token_id,
        "pad_token_id": getattr(config, "pad_token_id", None),  # not every transformers gives it
    }


def linear(name: str, weight: Tensor, bias: Tensor | None) -> Named:
    """weight: [out, in]; bias: [out], None for none, which is zero."""
    yield f"{name}.weight", weight
    yield f"{name}.bias", weight.new_zeros(len(weight)) if bias is None else bias


def norm(name: str, layer: torch.nn.LayerNorm) -> Named:
    """Gain and bias; without a gain it is one, without a bias it is zero."""
    for role, tensor, value in (("weight", layer.weight, 1.0), ("bias", layer.bias, 0.0)):
        yield f"{name}.{role}", torch.full(layer.normalized_shape, value) if tensor is None else tensor
