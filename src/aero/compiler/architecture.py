"""What the compiler makes of an architecture at full size, without a model of that size.

Which rewrites apply depends on structure, ratios of sizes and condition numbers; number formats, on ranges of values.
None of it depends much on the width: so the compiler runs on a model of random weights of trained-like scale with a few
features in each head, chooses number formats on random tokens, and every shape is widened afterwards. Where it chooses
between forms by price, it is asked to price the widened ones. A trained model's own condition numbers may lead it to
another form of FFN elimination, its ranges to other formats, and its scores may lie in windows.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from aero.compiler.compile import rewrite
from aero.compiler.compiled import Compiled, CompilerStage
from aero.compiler.passes.eliminate_ffn import by_products
from aero.compiler.positions import prefill_graph
from aero.compiler.quantize import Precision, Quantized, quantize, value_format
from aero.compiler.trained_scale import trained_scale_program
from aero.graph import OPS, Graph, Program
from aero.graph.ops import Shape
from aero.graph.ops.sheet import Function
from aero.graph.ring_plan import Format, RingPlan
from aero.models.notation import Notation
from aero.models.presets import TRAITS, Size, config_fields
from aero.structure import Decoder, lowered

_VOCABULARY = 251  # a prime, so that no multiple of a narrow width is mistaken for it
_FEATURES = 8
"""Of a narrow head, at least: scores of fewer lie farther apart than those of real heads of the same deviation."""
_TOKENS = 64
"""Of the text on which formats are chosen, at most."""
_BLOCKS = 4


@dataclass(frozen=True)
class Outline:
    """What the compiler makes of an architecture. programs: for any step of a session; their weights are zeros without
    memory. plan: number formats of weights of trained-like scale, without windows of scores."""

    programs: Compiled
    plan: RingPlan


@lru_cache(maxsize=8)
def outline(notation: Notation, size: Size) -> Outline:
    """ValueError where notation and size do not fit together."""
    narrow, final, _ = _rewritten(notation, size)
    text = np.random.default_rng(1).integers(narrow.vocab_size, size=(_BLOCKS, narrow.context))
    graph, zero = widen(final.graph, narrow, size), np.zeros(())
    program = Program(graph, {name: np.broadcast_to(zero, shape) for name, shape in graph.weight_shapes.items()})
    return Outline(Compiled(program), _widened_plan(graph, quantize(final, list(text))))


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
        found.append(CompilerStage(name, prefill_graph(widen(graph, narrow, size), length)))
    return found


def _rewritten(notation: Notation, size: Size) -> tuple[Size, Program, tuple[CompilerStage, ...]]:
    """The narrow size, what the compiler makes of it, and the steps in between."""
    narrow = _narrow(notation, size)
    program = trained_scale_program(notation, narrow)
    price = lambda graph: by_products(widen(graph, narrow, size))  # noqa: E731
    final, stages, _ = rewrite(program, price=price, softmax_base="2")
    return narrow, final, stages


def _widened_plan(graph: Graph, found: Quantized) -> RingPlan:
    """The formats that were chosen for a narrow model, but for norms, whose numbers are bounded by the width."""
    values: dict[str, Format] = dict(found.plan.values)
    for node in graph.nodes:
        if OPS[node.op].arithmetic == Function(of="row"):
            bound = float(OPS[node.op].bound(np.ones(graph.shapes[node.name][1]), **node.attrs).max())
            wide = dataclasses.replace(found.ranges[node.name], worst=bound)
            values[node.name] = value_format(node, wide, Precision())
    return RingPlan(values, found.plan.weights, {})


def _narrow(notation: Notation, size: Size) -> Size:
    """The same with few features in each head, of which as large a part turns in pairs, if any do; all widths are
    narrowed by the same factor, vocabulary and context to a few."""
    if not size.head_width and size.hidden_size % size.num_heads:
        raise ValueError(f"a width of {size.hidden_size} is not a multiple of its {size.num_heads} heads")
    head, turned, inner = size.hidden_size // size.num_heads, 0, size.hidden_size
    if size.family in TRAITS:
        decoder = Decoder.of(config_fields(notation, size))
        head, turned = decoder.head_width, decoder.rotary_width if decoder.positions == "rotary" else 0
        inner = decoder.ffn_width
    common = math.gcd(head, size.hidden_size, inner)
    least = min(head, _FEATURES)
    factors = (f for f in range(common, 1, -1) if common % f == 0 and head // f >= least and turned % (2 * f) == 0)
    factor = next(factors, 1)
    narrow = dataclasses.replace(
        size, hidden_size=size.hidden_size // factor, vocab_size=_VOCABULARY, context=min(size.context, _TOKENS)
    )
    if size.family in TRAITS:
        narrow = dataclasses.replace(narrow, head_width=head // factor, ffn_width=inner // factor)
    return narrow


def widen(graph: Graph, narrow: Size, size: Size) -> Graph:
    """The same graph, of every position, at another width, vocabulary and context."""
    factor = size.hidden_size // narrow.hidden_size

    def dimension(n: int) -> int:
        if n == narrow.vocab_size:
            return size.vocab_size
        return n if n == size.classes else n * factor

    rows = {name for node in graph.nodes if node.op in ("gain", "bias") for name in node.weights}

    def shape(name: str, dimensions: Shape) -> Shape:
        if name in rows and len(dimensions) == 2:  # [rows, features]
            return (size.context, dimension(dimensions[1]))
        return tuple(map(dimension, dimensions))

    nodes = [
        n if n.op != "rotary" else n.replace(attrs={**n.attrs, "rotated": factor * n.attrs["rotated"]})
        for n in graph.nodes
    ]
    shapes = {n: shape(n, s) for n, s in graph.weight_shapes.items()}
    return dataclasses.replace(graph, length=size.context, nodes=tuple(nodes), weight_shapes=shapes)
