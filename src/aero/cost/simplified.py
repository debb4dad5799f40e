"""The papers' comparison architecture, as far as it is priced: He & Hofmann's simplified block made Softmax-only
(He & Hofmann 2024, §4; "SOTA" in the papers' tables)."""

from __future__ import annotations

import math
from dataclasses import replace

from aero.graph import Graph
from aero.graph.graph import INPUT
from aero.models.notation import Notation
from aero.models.presets import Size, config_fields
from aero.structure.decoder import Builder, Decoder


def simplified(notation: Notation, size: Size) -> Graph:
    """Values and output projection are the identity. Of the shaped attention a I + b A - c C, the term b A stands here;
    the public matrices I and C cost nothing and are left out, so this graph prices the model and does not compute it.

    ValueError for a notation that is not Softmax-only.
    """
    if not notation.softmax_only:
        raise ValueError(f"the papers' simplified block is Softmax-only, unlike {notation}")
    decoder = replace(Decoder.of(config_fields(notation, size)), norm="layer")  # of the last norm, the only one
    b, length, width = Builder(decoder), decoder.context, decoder.hidden_size
    x = b.add("embedding", "embedding", INPUT, weights={"table": (decoder.vocab_size, width)})
    x = b.add("positions", "bias", x, weights={"w": (length, width)})
    for index, form in enumerate(decoder.ffn):
        name = f"blocks.{index}"
        q, k = (b.linear(f"{name}.{role}", x, width, width) for role in "qk")
        q = b.add(f"{name}.q.scale", "scale", q, factor=1.0 / math.sqrt(decoder.head_width))
        mixed = b.add(f"{name}.shaped", "scale", b.probabilities(name, q, k), factor=0.5)
        x = b.add(f"{name}.attend", "attend", mixed, x)
        if form != "absent":
            x = b.ffn(name, x, x, form)
    x = b.add("last", "rows", x, start=length - 1, stop=length)
    x = b.linear("logits", b.norm("final_norm", x, 1), width, decoder.vocab_size, bias=False)
    return Graph(length, tuple(b.nodes), b.shapes, x)
