"""A decoder as a graph: the names, shapes and operations of its forward pass, nothing folded yet.

The one place that knows how a block is put together. `aero.compiler.lower` brings a trained model's arrays by the names
that stand here; `aero.cost` needs none. A family is a choice along the axes of `Decoder`; what it has that no axis
expresses is a new axis, and perhaps an operation of `aero.graph.ops`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from aero.graph import Graph
from aero.graph.graph import INPUT
from aero.graph.ops import Shape
from aero.models.notation import BEGINS_AS, Activation, Block, Ffn, Norm, Notation, Temperature
from aero.models.presets import Positions, Size, config_fields, encoder_fields
from aero.structure.encoder import Encoder
from aero.structure.nodes import Nodes


@dataclass(frozen=True)
class Decoder:
    """The axes of a decoder, with the names and meanings that they have in `aero.models.AeroConfig`."""

    vocab_size: int
    context: int
    num_layers: int
    num_heads: int
    hidden_size: int
    ffn: Sequence[Ffn]
    num_key_heads: int = 0
    head_width: int = 0
    ffn_width: int = 0
    norm: Norm = "layer"
    norm_eps: float = 1e-5
    activation: Activation = "gelu"
    block: Block = "standard"
    qkv_bias: bool = True
    o_bias: bool = True
    ffn_bias: bool = True
    qk_norm: bool = False
    positions: Positions = "learned"
    rotary_fraction: float = 0.25
    rotary_base: float = 10_000.0
    rotary_scaling: Mapping[str, float] | None = None
    parallel_residual: bool = False
    attention_temperature: Temperature = "none"
    embedding_multiplier: float = 1.0
    logit_multiplier: float = 1.0

    def __post_init__(self) -> None:
        """What is left at 0 is as `AeroConfig` says."""
        defaults = {
            "num_key_heads": self.num_heads,
            "head_width": self.hidden_size // self.num_heads,
            "ffn_width": 4 * self.hidden_size,
        }
        for name, value in defaults.items():
            object.__setattr__(self, name, getattr(self, name) or value)

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Decoder:
        """From fields of an AeroConfig; those that the structure does not depend on are passed over."""
        return cls(**{field.name: config[field.name] for field in fields(cls) if field.name in config})

    @property
    def group(self) -> int:
        """Heads of queries for each head of keys and values."""
        return self.num_heads // self.num_key_heads

    @property
    def rotary_width(self) -> int:
        """How many features of each head turn."""
        return int(self.head_width * self.rotary_fraction)

    def graph(self, length: int, *, every_position: bool = False) -> Graph:
        """The logits [1, V] of the last of `length` positions, or [length, V] of every one.

        ValueError beyond the context, and for simplified blocks.
        """
        if not 1 <= length <= self.context:
            raise ValueError(f"{length} tokens do not fit this model's context of {self.context}; shorten the prompt")
        if self.block == "simplified":
            raise ValueError(
                "simplified blocks cannot be compiled: the graph has no operation for uniform attention beside "
                "softmax; they are here to be trained and compared, so compile a model of standard blocks"
            )
        b = Builder(self)
        x = b.embedding(length)
        for index, form in enumerate(self.ffn):
            x = b.block(f"blocks.{index}", x, length, form)
        return b.end(x, length, every_position)


def lowered(notation: Notation, size: Size, length: int | None = None, *, every_position: bool = False) -> Graph:
    """The graph of a notation at a size: what the compiler lowers such a model to; an encoder's has one output, of all
    positions. length: by default the context. Without multipliers, which the compiler folds away, as at GPT-2's scale.

    ValueError where notation, size and length do not fit together.
    """
    if size.family == "bert":
        encoder = Encoder.of(encoder_fields(notation, size))
        return encoder.graph(encoder.context if length is None else length)
    decoder = Decoder.of(config_fields(notation, size, scale="gpt2"))
    return decoder.graph(decoder.context if length is None else length, every_position=every_position)


class Builder(Nodes):
    """Of a decoder's graph."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def embedding(self, length: int) -> str:
        d = self.decoder
        x = self.add("embedding", "embedding", INPUT, weights={"table": (d.vocab_size, d.hidden_size)})
        if d.positions == "learned":
            x = self.add("positions", "bias", x, weights={"w": (length, d.hidden_size)})
        return self.add("embedding_multiplier", "scale", x, factor=d.embedding_multiplier)

    def block(self, name: str, x: str, length: int, form: Ffn) -> str:
        """One layer: attention, then the FFN in its form."""
        attended = self.add(f"{name}.attention", "add", x, self.attention(name, x, length))
        if form == "absent":
            return attended
        normed = self.norm(f"{name}.norm_2", x if self.decoder.parallel_residual else attended, length)
        return self.ffn(name, normed, attended, form)

    def attention(self, name: str, x: str, length: int) -> str:
        """What attention adds to the residual stream."""
        d, width = self.decoder, self.decoder.hidden_size
        if BEGINS_AS.get(d.norm) == "layer":  # an affine map of its own for each reader, so that it can be merged there
            read = {role: self.norm(f"{name}.norm_1.{role}", x, length) for role in "qkv"}
        else:
            read = dict.fromkeys("qkv", self.norm(f"{name}.norm_1", x, length))
        features = {role: d.head_width * (d.num_heads if role == "q" else d.num_key_heads) for role in "qkv"}
        q, k, v = (self.linear(f"{name}.{role}", read[role], width, features[role], bias=d.qkv_bias) for role in "qkv")
        if d.qk_norm:
            q, k = (self.head_norm(f"{name}.{role}.norm", y, features[role]) for role, y in (("q", q), ("k", k)))
        q = self.add(f"{name}.q.scale", "scale", q, factor=1.0 / math.sqrt(d.head_width))
        if d.attention_temperature != "none":
            rows = 1 if d.attention_temperature == "per_head" else length
            q = self.add(f"{name}.temperature", "gain", q, weights={"w": _of_rows(rows, features["q"])})
        if d.positions == "rotary":
            q = self.turned(f"{name}.q.rotary", q, d.num_heads)
            k = self.turned(f"{name}.k.rotary", k, d.num_key_heads)
        attended = self.add(f"{name}.attend", "attend", self.probabilities(name, q, k), v, **self.grouped)
        return self.linear(f"{name}.o", attended, features["q"], width, bias=d.o_bias)

    @property
    def grouped(self) -> dict[str, Any]:
        """An attribute of attention's products, where heads share keys and values."""
        return {"group": self.decoder.group} if self.decoder.group > 1 else {}

    def probabilities(self, name: str, q: str, k: str) -> str:
        scores = self.add(f"{name}.scores", "scores", q, k, heads=self.decoder.num_heads, **self.grouped)
        return self.add(f"{name}.softmax", "softmax", scores)

    def head_norm(self, name: str, x: str, features: int) -> str:
        d = self.decoder
        if d.norm in BEGINS_AS:
            x = self.add(f"{name}.scale", "gain", x, weights={"w": ()})
        else:
            x = self.add(name, "rms_norm", x, eps=d.norm_eps, heads=features // d.head_width)
        return self.add(f"{name}.gain", "gain", x, weights={"w": (features,)})

    def turned(self, name: str, x: str, heads: int) -> str:
        d = self.decoder
        turns: dict[str, Any] = {"heads": heads, "rotated": d.rotary_width, "base": d.rotary_base, "start": 0}
        return self.add(name, "rotary", x, **turns | dict(d.rotary_scaling or {}))

    def ffn(self, name: str, normed: str, x: str, form: Ffn) -> str:
        """x plus the FFN of `normed`, both scaled where the form says so."""
        d, width = self.decoder, self.decoder.hidden_size
        if form in ("fused", "scaled_fused"):
            y = self.linear(f"{name}.ffn.w", normed, width, width, bias=d.ffn_bias)
        else:
            inner, bias = d.ffn_width, d.ffn_bias
            y = self.linear(f"{name}.ffn.in", normed, width, inner, bias=bias)
            if form in ("gated", "scaled_gated"):
                gate = self.linear(f"{name}.ffn.gate", normed, width, inner, bias=bias)
                y = self.add(f"{name}.ffn.gated", "multiply", self.activation(f"{name}.ffn", gate, d.activation), y)
            else:
                y = self.activation(f"{name}.ffn", y, d.activation)
            y = self.linear(f"{name}.ffn.out", y, inner, width, bias=bias)
        if form.startswith("scaled"):
            y = self.add(f"{name}.ffn.alpha", "gain", y, weights={"w": ()})
            x = self.add(f"{name}.ffn.beta", "gain", x, weights={"w": ()})
        return self.add(f"{name}.ffn", "add", x, y)

    def norm(self, name: str, x: str, rows: int) -> str:
        """rows: of x. With frozen statistics it is x / sigma_bar, or (x / sigma_bar) C where it was LayerNorm: C = I -
        11^T / d takes a row's mean away, and sigma_bar is a constant, or one for each position."""
        d, width = self.decoder, self.decoder.hidden_size
        if d.norm == "none":
            return x
        kind = BEGINS_AS.get(d.norm, d.norm)
        if kind == d.norm:
            x = self.add(name, f"{kind}_norm", x, eps=d.norm_eps)
        else:
            shape = _of_rows(rows, width) if d.norm.endswith("per_position") else ()
            x = self.add(f"{name}.scale", "gain", x, weights={"w": shape})
            x = self.linear(name, x, width, width, bias=False) if kind == "layer" else x
        if kind == "layer":
            return self.affine(name, x, width)
        return self.add(f"{name}.gain", "gain", x, weights={"w": (width,)})

    def end(self, x: str, length: int, every_position: bool) -> Graph:
        """The final norm and the vocabulary's logits of what the last block gives."""
        d, rows = self.decoder, length
        if not every_position:
            x, rows = self.add("last", "rows", x, start=length - 1, stop=length), 1
        x = self.linear("logits", self.norm("final_norm", x, rows), d.hidden_size, d.vocab_size, bias=False)
        x = self.add("logit_multiplier", "scale", x, factor=d.logit_multiplier)
        return self.graph(length, x)


def _of_rows(rows: int, width: int) -> Shape:
    """Of a gain that differs from row to row; where there is one row, it is a gain like any other."""
    return (width,) if rows == 1 else (rows, width)
