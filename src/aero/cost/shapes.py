"""The graph of an architecture without a model: shapes from a notation and a size, no weights and no torch.

`lowered` is what `aero.compiler.lower` makes of such a model, node for node. `simplified` is the papers' comparison
architecture, as far as it is priced.
"""

from __future__ import annotations

import math

from aero.graph import Graph, Node
from aero.graph.graph import INPUT
from aero.graph.ops import Shape
from aero.models.notation import Norm, Notation
from aero.models.presets import ROTARY_BASE, ROTARY_FRACTION, Size, config_fields

FFN_MULTIPLIER = 4
NORM_EPS = 1e-5


class _Builder:
    """Collects nodes and weight shapes; every method adds nodes and returns the name of the value."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.shapes: dict[str, Shape] = {}

    def add(
        self, name: str, op: str, *inputs: str, weights: dict[str, Shape] | None = None, **attrs: float | str
    ) -> str:
        for role, shape in (weights or {}).items():
            self.shapes[f"{name}.{role}"] = shape
        self.nodes.append(Node(name, op, inputs, tuple(f"{name}.{role}" for role in weights or {}), attrs))
        return name

    def linear(self, name: str, x: str, k: int, m: int, *, bias: bool = True) -> str:
        return self.add(name, "linear", x, weights={"w": (k, m), **({"b": (m,)} if bias else {})})

    def norm(self, name: str, x: str, width: int, norm: Norm, rows: int) -> str:
        if norm == "none":
            return x
        if norm == "layer":
            x = self.add(name, "layer_norm", x, eps=NORM_EPS)
        else:
            shape = () if norm == "frozen" else (width,) if rows == 1 else (rows, width)
            x = self.linear(name, self.add(f"{name}.scale", "gain", x, weights={"w": shape}), width, width, bias=False)
        x = self.add(f"{name}.gain", "gain", x, weights={"w": (width,)})
        return self.add(f"{name}.bias", "bias", x, weights={"w": (width,)})


def lowered(notation: Notation, size: Size, length: int | None = None, *, every_position: bool = False) -> Graph:
    """The graph of the last position's logits of `length` tokens (the size's context by default), or of all positions'.

    Raises ValueError where notation, size and length do not fit together.
    """
    length = size.context if length is None else length
    if not 1 <= length <= size.context:
        raise ValueError(f"{length} tokens do not fit a context of {size.context}")
    if notation.block == "simplified":
        raise ValueError(f"{notation} cannot be compiled; `simplified` prices it")
    fields, d, b = config_fields(notation, size), size.hidden_size, _Builder()
    x = b.add("embedding", "embedding", INPUT, weights={"table": (size.vocab_size, d)})
    if size.family == "gpt2":
        x = b.add("positions", "bias", x, weights={"w": (length, d)})
    x = b.add("embedding_multiplier", "scale", x, factor=fields["embedding_multiplier"])
    for index, form in enumerate(fields["ffn"]):
        x = _block(b, x, f"blocks.{index}", notation, size, length, form)
    if not every_position:
        x = b.add("last", "rows", x, start=length - 1, stop=length)
    x = b.norm("final_norm", x, d, notation.norm, length if every_position else 1)
    x = b.linear("logits", x, d, size.vocab_size, bias=False)
    x = b.add("logit_multiplier", "scale", x, factor=fields["logit_multiplier"])
    return Graph(length, tuple(b.nodes), b.shapes, x)


def _block(b: _Builder, x: str, name: str, notation: Notation, size: Size, length: int, form: str) -> str:
    d, heads, norm = size.hidden_size, size.num_heads, notation.norm
    if norm in ("layer", "none"):
        normed = [b.norm(f"{name}.norm_1", x, d, norm, length)] * 3
    else:
        normed = [b.norm(f"{name}.norm_1.{role}", x, d, norm, length) for role in "qkv"]
    q, k, v = (b.linear(f"{name}.{role}", read, d, d) for role, read in zip("qkv", normed, strict=True))
    q = b.add(f"{name}.q.scale", "scale", q, factor=1.0 / math.sqrt(d // heads))
    if notation.temperature != "none":
        shape = (d,) if notation.temperature == "per_head" or length == 1 else (length, d)
        q = b.add(f"{name}.temperature", "gain", q, weights={"w": shape})
    if size.family == "gpt_neox":
        rotated = int(d // heads * ROTARY_FRACTION)
        q, k = (
            b.add(f"{y}.rotary", "rotary", x, heads=heads, rotated=rotated, base=ROTARY_BASE, start=0)
            for y, x in ((f"{name}.q", q), (f"{name}.k", k))
        )
    scores = b.add(f"{name}.scores", "scores", q, k, heads=heads)
    probabilities = b.add(f"{name}.softmax", "causal_softmax", scores)
    attended = b.add(f"{name}.attend", "attend", probabilities, v)
    before = x
    x = b.add(f"{name}.attention", "add", x, b.linear(f"{name}.o", attended, d, d))
    if form == "absent":
        return x
    read = x if size.family == "gpt2" else before
    read = b.norm(f"{name}.norm_2", read, d, norm, length)
    return _ffn(b, read, x, name, notation, size, form)


def _ffn(b: _Builder, normed: str, x: str, name: str, notation: Notation, size: Size, form: str) -> str:
    d = size.hidden_size
    if form in ("fused", "scaled_fused"):
        ffn = b.linear(f"{name}.ffn.w", normed, d, d)
    else:
        ffn = b.linear(f"{name}.ffn.in", normed, d, FFN_MULTIPLIER * d)
        if notation.activation == "gelu" and size.family == "gpt_neox":
            ffn = b.add(f"{name}.ffn.gelu", "gelu", ffn, form="erf")
        elif notation.activation in ("leaky_relu", "leaky_relu_global"):
            positive = b.add(f"{name}.ffn.relu", "relu", ffn)
            positive = b.add(f"{name}.ffn.relu.slope", "gain", positive, weights={"w": ()})
            ffn = b.add(f"{name}.ffn.slope", "gain", ffn, weights={"w": ()})
            ffn = b.add(f"{name}.ffn.leaky_relu", "add", ffn, positive)
        elif notation.activation != "identity":
            ffn = b.add(f"{name}.ffn.{notation.activation}", notation.activation, ffn)
        ffn = b.linear(f"{name}.ffn.out", ffn, FFN_MULTIPLIER * d, d)
    if form in ("scaled", "scaled_fused"):
        ffn = b.add(f"{name}.ffn.alpha", "gain", ffn, weights={"w": ()})
        x = b.add(f"{name}.ffn.beta", "gain", x, weights={"w": ()})
    return b.add(f"{name}.ffn", "add", x, ffn)


def simplified(notation: Notation, size: Size) -> Graph:
    """He & Hofmann's simplified block made Softmax-only (He & Hofmann 2024, §4; "SOTA" in the papers' tables).

    Values and output projection are the identity. Of the shaped attention a I + b A - c C, the term b A stands here;
    the public matrices I and C cost nothing and are left out, so this graph prices the model and does not compute it.
    """
    if not notation.softmax_only:
        raise ValueError(f"the papers' simplified block is Softmax-only, unlike {notation}")
    d, heads, length, b = size.hidden_size, size.num_heads, size.context, _Builder()
    x = b.add("embedding", "embedding", INPUT, weights={"table": (size.vocab_size, d)})
    x = b.add("positions", "bias", x, weights={"w": (length, d)})
    for index, form in enumerate(config_fields(notation, size)["ffn"]):
        name = f"blocks.{index}"
        q, k = (b.linear(f"{name}.{role}", x, d, d) for role in "qk")
        q = b.add(f"{name}.q.scale", "scale", q, factor=1.0 / math.sqrt(d // heads))
        p = b.add(f"{name}.softmax", "causal_softmax", b.add(f"{name}.scores", "scores", q, k, heads=heads))
        x = b.add(f"{name}.attend", "attend", b.add(f"{name}.shaped", "scale", p, factor=0.5), x)
        if form != "absent":
            x = _ffn(b, x, x, name, notation, size, form)
    x = b.add("last", "rows", x, start=length - 1, stop=length)
    x = b.linear("logits", b.norm("final_norm", x, d, "layer", 1), d, size.vocab_size, bias=False)
    return Graph(length, tuple(b.nodes), b.shapes, x)
