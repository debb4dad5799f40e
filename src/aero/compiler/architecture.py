"""What the compiler makes of an architecture at full size, without a model of that size.

Which rewrites apply depends on the structure and on ratios of sizes, not on weights: so the compiler runs on a model of
random weights with a few features in each head, and every shape is widened afterwards. Where the compiler
chooses between forms by price, it is asked to price the widened ones. Random weights of GPT-2's initial scale stand for
well-conditioned ones; a trained model's own condition numbers may lead it to another form of FFN elimination.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from aero.compiler.compile import rewrite
from aero.compiler.compiled import Compiled, CompilerStage
from aero.compiler.passes.eliminate_ffn import by_products
from aero.compiler.positions import prefill
from aero.graph import Graph, Program
from aero.graph.ops import Shape
from aero.models.notation import Notation
from aero.models.presets import TRAITS, Size, config_fields
from aero.structure import Decoder, lowered

_VOCABULARY = 251  # a prime, so that no multiple of a narrow width is mistaken for it


def compiled_stages(notation: Notation, size: Size, length: int | None = None) -> list[CompilerStage]:
    """The graph as lowered, and after each step of the compiler that changes it; the last one is what engines run.

    They are of the last position's logits. ValueError where notation, size and length do not fit together.
    """
    length = size.context if length is None else length
    narrow, final, stages = _rewritten(notation, size)
    found = [CompilerStage("as trained", lowered(notation, size, length))]
    for stage in (*stages[:-1], None):
        graph = final.graph if stage is None else stage.graph
        name = stages[-1].name if stage is None else "last position only" if stage is stages[0] else stage.name
        # Selecting rows of weights needs weights; which ones does not matter.
        last = prefill(random_program(graph), length).graph
        found.append(CompilerStage(name, widen(last, narrow, size)))
    return found


def compiled_programs(notation: Notation, size: Size) -> Compiled:
    """What the compiler makes of it, for any step of a session; the weights are zeros that take no memory."""
    narrow, final, _ = _rewritten(notation, size)
    graph, zero = widen(final.graph, narrow, size), np.zeros(())
    return Compiled(Program(graph, {n: np.broadcast_to(zero, shape) for n, shape in graph.weight_shapes.items()}))


def _rewritten(notation: Notation, size: Size) -> tuple[Size, Program, tuple[CompilerStage, ...]]:
    """The narrow size, what the compiler makes of it, and the steps in between."""
    narrow = _narrow(notation, size)
    program = random_program(lowered(notation, narrow, every_position=True))
    final, stages, _ = rewrite(program, price=lambda graph: by_products(widen(graph, narrow, size)))
    return narrow, final, stages


def _narrow(notation: Notation, size: Size) -> Size:
    """The same with few features in each head, at least two, of which as large a part turns in pairs, if any do; all
    widths are narrowed by the same factor."""
    if not size.head_width and size.hidden_size % size.num_heads:
        raise ValueError(f"a width of {size.hidden_size} is not a multiple of its {size.num_heads} heads")
    head, turned, inner = size.hidden_size // size.num_heads, 0, size.hidden_size
    if size.family in TRAITS:
        decoder = Decoder.of(config_fields(notation, size))
        head, turned = decoder.head_width, decoder.rotary_width if decoder.positions == "rotary" else 0
        inner = decoder.ffn_width
    common = math.gcd(head, size.hidden_size, inner)
    factors = (f for f in range(common, 1, -1) if common % f == 0 and head // f > 1 and turned % (2 * f) == 0)
    factor = next(factors, 1)
    narrow = dataclasses.replace(size, hidden_size=size.hidden_size // factor, vocab_size=_VOCABULARY)
    if size.family in TRAITS:
        narrow = dataclasses.replace(narrow, head_width=head // factor, ffn_width=inner // factor)
    return narrow


def random_program(graph: Graph, seed: int = 0) -> Program:
    """Weights of GPT-2's initial scale; scalars, which are gains of the residual stream and the FFN, near one."""
    rng = np.random.default_rng(seed)
    weights = {
        name: 0.02 * rng.standard_normal(shape) if shape else np.array(rng.uniform(0.8, 1.2))
        for name, shape in graph.weight_shapes.items()
    }
    return Program(graph, weights)


def widen(graph: Graph, narrow: Size, size: Size) -> Graph:
    """The same graph at another width and vocabulary."""
    factor = size.hidden_size // narrow.hidden_size

    def dimension(n: int) -> int:
        if n == narrow.vocab_size:
            return size.vocab_size
        return n if n == size.classes else n * factor

    rows = {name for node in graph.nodes if node.op in ("gain", "bias") for name in node.weights}

    def shape(name: str, dimensions: Shape) -> Shape:
        if name in rows and len(dimensions) == 2:  # [rows, features]
            return (dimensions[0], dimension(dimensions[1]))
        return tuple(map(dimension, dimensions))

    nodes = [
        n if n.op != "rotary" else n.replace(attrs={**n.attrs, "rotated": factor * n.attrs["rotated"]})
        for n in graph.nodes
    ]
    shapes = {n: shape(n, s) for n, s in graph.weight_shapes.items()}
    return dataclasses.replace(graph, nodes=tuple(nodes), weight_shapes=shapes)
