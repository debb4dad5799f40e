"""Random weights whose values have the scales of a trained model's, for measuring engines without training one.

Independent normal weights, scaled layer by layer on random tokens so that what each layer computes has a stated
standard deviation (as in layer-sequential unit-variance initialisation, Mishkin & Matas 2016): time and bytes of an
engine do not depend on the weights, but ring sizes and the logits' error depend on these scales.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from aero.compiler.quantize import quantize
from aero.graph import Node, Program
from aero.graph.graph import INPUT
from aero.graph.interpret import apply
from aero.graph.ring_plan import Format, RingPlan
from aero.models.notation import Notation
from aero.models.presets import Size
from aero.structure import lowered

RESIDUAL = 1.0
"""Of the embedding. GPT-2's own is smaller, but its stream reaches this in the first block; without norms, attention
would not wake below it."""
QUERY = KEY = 1.5
"""Scores then have a standard deviation of about 2 nats."""
VALUE = INNER = 1.0
BRANCH = 0.25
"""What attention and FFN each add, as a part of the residual stream."""
LOGITS = 3.0


def trained_scale_program(notation: Notation, size: Size, length: int | None = None, *, seed: int = 0) -> Program:
    """The logits of every position of `length` tokens, as the compiler lowers such a model, with weights."""
    graph = lowered(notation, size, length, every_position=True)
    rng = np.random.default_rng(seed)
    ids = rng.integers(size.vocab_size, size=graph.length)
    values: dict[str, np.ndarray] = {INPUT: ids}
    weights: dict[str, np.ndarray] = {}
    last_use = {name: index for index, node in enumerate(graph.nodes) for name in node.inputs}
    stream = RESIDUAL
    for index, node in enumerate(graph.nodes):
        shapes = [graph.weight_shapes[name] for name in node.weights]
        drawn = [_drawn(node, position, shape, rng) for position, shape in enumerate(shapes)]
        inputs = [values[name] for name in node.inputs]
        if node.op == "linear":
            target = _target(node, stream)
            drawn[0] *= target / apply(node, inputs, drawn[:1]).std()
            drawn[1:] = [0.1 * target * b for b in drawn[1:]]
        elif node.op == "embedding":
            drawn[0] *= stream
        values[node.name] = apply(node, inputs, drawn)
        if node.op == "add":
            stream = float(values[node.name].std())
        weights.update(zip(node.weights, drawn, strict=True))
        for name in node.inputs:  # scores and logits of a large model are large
            if last_use[name] == index:
                del values[name]
    return Program(graph, weights)


def trained_scale_plan(
    program: Program, calibration: Sequence[np.ndarray], *, usual: Mapping[str, Format] = MappingProxyType({})
) -> RingPlan:
    """Number formats of such a program, compiled. Without windows of scores: whether a model has narrow ones, its
    training decides, and of random scores chance does. usual: as of `quantize`."""
    return replace(quantize(program, calibration, usual=usual).plan, windows=())


def _drawn(node: Node, position: int, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    if node.op == "gain":
        return rng.uniform(0.8, 1.2, shape)
    if node.op == "bias":
        return 0.05 * rng.standard_normal(shape)
    return rng.standard_normal(shape)


def _target(node: Node, stream: float) -> float:
    """The standard deviation that a linear layer's results are to have."""
    role = node.name.rpartition(".")[2]
    inside = {"q": QUERY, "k": KEY, "v": VALUE, "in": INNER, "logits": LOGITS}
    return inside.get(role, BRANCH * stream)
