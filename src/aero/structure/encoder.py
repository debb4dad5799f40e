"""A BERT-shaped encoder as a graph (Devlin et al. 2019, §3; Vaswani et al. 2017, §3.1): norms after attention and FFN,
and every token sees every other.

    x = LN(E[ids] + positions)        x = LN(x + Attention(x))        x = LN(x + FFN(x))

A graph is of exactly as many tokens as a text has, so that nothing is padded. The vector of the first token's type is
part of the positions: texts are single ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from aero.graph import Graph
from aero.graph.graph import INPUT
from aero.graph.heads import NO_MASK
from aero.models.notation import Activation
from aero.structure.nodes import Nodes

Pooling = Literal["mean", "first"]
Pooler = Literal["none", "tanh", "relu"]
EncoderActivation = Literal["gelu", "gelu_erf", "relu"]


@dataclass(frozen=True)
class Encoder:
    """The axes of an encoder.

    intermediate_size: features inside an FFN. pooling: what of the last layer the output is made of, the mean of all
    rows or the first one. pooler: activation of a square layer after it, "none" for no such layer. classes: of the
    linear layer at the end; 0 for none, where the output is an embedding. ValueError for values that make no model.
    """

    vocab_size: int
    context: int
    num_layers: int
    num_heads: int
    hidden_size: int
    intermediate_size: int
    activation: EncoderActivation = "gelu_erf"
    norm_eps: float = 1e-12
    pooling: Pooling = "mean"
    pooler: Pooler = "none"
    classes: int = 0

    def __post_init__(self) -> None:
        for name in ("vocab_size", "context", "num_layers", "num_heads", "hidden_size", "intermediate_size"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} is {value!r}; give a whole number of at least 1")
        if self.hidden_size % self.num_heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not a multiple of num_heads {self.num_heads}")
        if not 0 < self.norm_eps < math.inf or type(self.classes) is not int or self.classes < 0:
            raise ValueError(f"norm_eps is {self.norm_eps!r} and classes {self.classes!r}; give positive numbers")
        for name, allowed in (("activation", EncoderActivation), ("pooling", Pooling), ("pooler", Pooler)):
            if getattr(self, name) not in get_args(allowed):
                raise ValueError(f"{name} is {getattr(self, name)!r}; choose one of {', '.join(get_args(allowed))}")

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Encoder:
        """From fields; others are passed over."""
        return cls(**{field.name: values[field.name] for field in fields(cls) if field.name in values})

    @property
    def outputs(self) -> int:
        return self.classes or self.hidden_size

    def graph(self, length: int) -> Graph:
        """The embedding [1, d] of a text of `length` tokens, or the logits [1, classes]. ValueError beyond the
        context."""
        if not 1 <= length <= self.context:
            raise ValueError(f"{length} tokens do not fit this model's context of {self.context}; shorten the text")
        b = _Builder(self)
        x = b.embedding(length)
        for index in range(self.num_layers):
            x = b.block(f"blocks.{index}", x)
        return b.graph(length, b.end(x))


class _Builder(Nodes):
    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder, self.width = encoder, encoder.hidden_size

    def embedding(self, length: int) -> str:
        x = self.add("embedding", "embedding", INPUT, weights={"table": (self.encoder.vocab_size, self.width)})
        return self.norm("embedding.norm", self.add("positions", "bias", x, weights={"w": (length, self.width)}))

    def block(self, name: str, x: str) -> str:
        x = self.norm(f"{name}.norm_1", self.add(f"{name}.attention", "add", x, self.attention(name, x)))
        inner = self.linear(f"{name}.ffn.in", x, self.width, self.encoder.intermediate_size)
        inner = self.activation(f"{name}.ffn", inner, self.encoder.activation)
        y = self.linear(f"{name}.ffn.out", inner, self.encoder.intermediate_size, self.width)
        return self.norm(f"{name}.norm_2", self.add(f"{name}.ffn", "add", x, y))

    def attention(self, name: str, x: str) -> str:
        heads, width = self.encoder.num_heads, self.width
        q, k, v = (self.linear(f"{name}.{role}", x, width, width) for role in "qkv")
        q = self.add(f"{name}.q.scale", "scale", q, factor=1.0 / math.sqrt(width // heads))
        scores = self.add(f"{name}.scores", "scores", q, k, heads=heads, mask=NO_MASK)
        probabilities = self.add(f"{name}.softmax", "softmax", scores, mask=NO_MASK)
        return self.linear(
            f"{name}.o", self.add(f"{name}.attend", "attend", probabilities, v, mask=NO_MASK), width, width
        )

    def norm(self, name: str, x: str) -> str:
        return self.affine(name, self.add(name, "layer_norm", x, eps=self.encoder.norm_eps), self.width)

    def end(self, x: str) -> str:
        e = self.encoder
        if e.pooling == "first":
            x = self.add("pooled", "rows", x, start=0, stop=1)
        else:
            x = self.add("pooled", "mean_rows", x)
        if e.pooler != "none":
            kind: Activation | Literal["tanh"] = e.pooler
            x = self.add(f"pooler.{kind}", kind, self.linear("pooler", x, self.width, self.width))
        return self.linear("logits", x, self.width, e.classes) if e.classes else x
