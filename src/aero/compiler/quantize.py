"""The one lossy step: which fixed-point format each value and weight gets, and what that costs in accuracy.

A value gets a fixed number of fractional bits for its kind, and as many whole bits as calibration text needs, with a
margin; where a worst case over all texts needs fewer, that decides, and the value is then proven not to overflow.

    value      kind's fractional bits, e.g. 16 for activations, 14 for scores, 18 for probabilities
    product    fractional bits of both factors: the ring in which it is held before truncation
    weight     16 fractional bits; what is added has the format of the sum

`docs/understand/compiler.md` says how the defaults came about.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType

import numpy as np

from aero.compiler.positions import prefix
from aero.compiler.ranges import Range, ranges, row_maxima
from aero.graph import OPS, Graph, Node, Program, interpret
from aero.graph.graph import INPUT
from aero.graph.interpret import apply
from aero.graph.ops.sheet import Function, LookUp, Move, Product, PublicProduct, Sum
from aero.graph.ring_plan import MAX_BITS, Format, RingPlan, ScoreWindow

# Computes a graph in fixed point, as `InsecurePlainEngine.run` does: graph, weights, ids -> output.
Run = Callable[[Graph, Mapping[str, np.ndarray], np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Precision:
    """Fractional bits of each kind of tensor, and whole bits beyond what calibration text needs."""

    activation: int = 16
    weight: int = 16
    score: int = 14
    probability: int = 18
    margin: int = 2

    def __post_init__(self) -> None:
        for name, bits in vars(self).items():
            if not 0 <= bits <= 30:
                raise ValueError(f"{name} is {bits} bits; choose 0 to 30")

    def of(self, node: Node) -> int:
        bits: int = getattr(self, OPS[node.op].precision)
        return bits


@dataclass(frozen=True)
class Quantized:
    """plan: for engines; ranges: of every value; proven: the values that no text can make overflow."""

    plan: RingPlan
    ranges: Mapping[str, Range]
    proven: frozenset[str]


def quantize(
    program: Program,
    calibration: Sequence[np.ndarray],
    *,
    outside: Sequence[np.ndarray] = (),
    precision: Precision | None = None,
    max_bits: int = MAX_BITS,
    usual: Mapping[str, Format] = MappingProxyType({}),
) -> Quantized:
    """A ring plan for a compiled program of every position.

    calibration: token ids [n] of representative text; outside: of text unlike it, for the windows of scores.
    usual: formats of values, which are taken where they leave at least half of the margin over what is seen.
    max_bits: the largest ring that the engine has.
    Raises ValueError, naming the layer, for activations that do not fit it.
    """
    if not calibration:
        raise ValueError("no calibration text; give at least one block of token ids")
    precision = precision or Precision()
    closer = replace(precision, margin=precision.margin // 2)

    graph, found = program.graph, ranges(program, calibration, partial(_off, precision=precision))
    values: dict[str, Format] = {}
    weights: dict[str, Format] = {}
    products: dict[str, int] = {}
    proven = set()
    for node in graph.nodes:
        fraction_bits, largest, arithmetic = precision.of(node), found[node.name], OPS[node.op].arithmetic
        whole = _whole(node, largest, precision)
        other = usual.get(node.name)
        if other and other.fraction_bits == fraction_bits and other.limit >= 2.0 ** _whole(node, largest, closer):
            whole = other.bits - 1 - fraction_bits
        values[node.name] = _format(node.name, largest.seen, whole, fraction_bits, max_bits)
        if _certain(largest) <= whole:
            proven.add(node.name)
        for name in node.weights:
            added = isinstance(arithmetic, LookUp | Sum) or name in node.weights[1:]
            fraction = fraction_bits if added else precision.weight
            size = float(np.abs(program.weights[name]).max())
            weights[name] = _format(name, size, _whole_bits(size + 2.0**-fraction), fraction, max_bits)
        if isinstance(arithmetic, Product):
            products[node.name] = _product_bits(program, node, values, weights, whole, max_bits)
    windows = score_windows(program, calibration, outside)
    return Quantized(RingPlan(values, weights, products, windows), found, frozenset(proven))


def value_format(node: Node, found: Range, precision: Precision, max_bits: int = MAX_BITS) -> Format:
    """Of a node's value. ValueError, naming the node, for one that does not fit the largest ring."""
    return _format(node.name, found.seen, _whole(node, found, precision), precision.of(node), max_bits)


def _whole(node: Node, found: Range, precision: Precision) -> int:
    """A norm's protocol has to hold the largest number of any row (`NormPlan`), whatever was seen."""
    if OPS[node.op].arithmetic == Function(of="row"):
        return _certain(found)
    return min(_certain(found), _calibrated(node, found, precision))


def _certain(found: Range) -> int:
    """Headroom: a bound may be met exactly, and roundings go beyond it, of weights and of functions."""
    return _whole_bits(found.worst * (1 + 2.0**-8))


def _calibrated(node: Node, found: Range, precision: Precision) -> int:
    return _whole_bits(found.seen * (1 + 2.0**-8) + _off(node, precision)) + precision.margin


def _off(node: Node, precision: Precision) -> float:
    """Roundings, or the noise of a product."""
    return OPS[node.op].error_steps * 2.0 ** -precision.of(node)


def _whole_bits(largest: float) -> int:
    """Bits for the whole part of magnitudes up to this, without the sign; at least 0."""
    return max(0, math.ceil(math.log2(largest))) if 0 < largest < math.inf else (0 if largest == 0 else 10_000)


def _format(name: str, seen: float, whole: int, fraction_bits: int, max_bits: int) -> Format:
    _check(name, seen, 1 + whole + fraction_bits, max_bits)
    return Format(max(2, 1 + whole + fraction_bits), fraction_bits)


def _product_bits(
    program: Program, node: Node, values: Mapping[str, Format], weights: Mapping[str, Format], whole: int, max_bits: int
) -> int:
    """The ring that holds a product with all its fractional bits; a bias is added after truncation."""
    first = values[node.inputs[0]].fraction_bits
    second = (weights[node.weights[0]] if node.weights else values[node.inputs[-1]]).fraction_bits
    if isinstance(arithmetic := OPS[node.op].arithmetic, PublicProduct):
        second += arithmetic.finer
    if len(node.weights) == 2:
        bias = float(np.abs(program.weights[node.weights[1]]).max())
        whole = _whole_bits(2.0**whole + bias)
    bits = 1 + whole + first + second
    _check(node.name, 2.0**whole, bits, max_bits)
    return bits


def _check(name: str, largest: float, bits: int, max_bits: int) -> None:
    if bits > max_bits:
        raise ValueError(
            f"{name}: magnitudes up to {largest:.3g} on calibration text need a ring of {bits} bits, and the largest "
            f"is {max_bits}; use fewer fractional bits, or train with smaller activations"
        )


def score_windows(
    program: Program, calibration: Sequence[np.ndarray], outside: Sequence[np.ndarray] = ()
) -> tuple[ScoreWindow, ...]:
    """Where each head's row maxima lie, on calibration text and outside it."""
    inside, beyond = row_maxima(program, calibration), row_maxima(program, outside)
    windows = []
    for layer, heads in inside.items():
        for head, of in enumerate(heads):
            other = beyond[layer][head] if layer in beyond else of
            windows.append(
                ScoreWindow(
                    layer,
                    head,
                    row_maximum=(of.low, of.high),
                    outside=(other.low, other.high),
                    lowest=min(of.lowest, other.lowest),
                )
            )
    return tuple(windows)


@dataclass(frozen=True)
class Accuracy:
    """What fixed point does to the logits, on text that was not calibrated on.

    predicted: root mean square error of a logit, by the model of independent roundings; measured: by the fixed-point
    engine; largest: its largest error; perplexity: of the program in float64; fixed_perplexity: in fixed point;
    same_token: share of positions where both have the same most likely token; positions: number compared.
    """

    predicted: float
    measured: float
    largest: float
    perplexity: float
    fixed_perplexity: float
    same_token: float
    positions: int

    @property
    def perplexity_change(self) -> float:
        """Relative: 0.001 is 0.1 %."""
        return self.fixed_perplexity / self.perplexity - 1.0


def accuracy(program: Program, plan: RingPlan, blocks: Sequence[np.ndarray], run: Run) -> Accuracy:
    """Compare fixed point with float64 on blocks of token ids [n].

    Raises OverflowError, naming the layer, where the text leaves the plan's ranges.
    """
    squares, largest, same, logits_seen, positions = 0.0, 0.0, 0, 0, 0
    nats = np.zeros(2)
    predicted = []
    for index, ids in enumerate(blocks):
        short = prefix(program, len(ids))
        exact, fixed = interpret(short, ids), run(short.graph, short.weights, ids)
        error = fixed - exact
        squares += float((error**2).sum())
        largest = max(largest, float(np.abs(error).max()))
        same += int((fixed.argmax(-1) == exact.argmax(-1)).sum())
        logits_seen, positions = logits_seen + error.size, positions + len(ids)
        nats += [_nats(exact, ids), _nats(fixed, ids)]
        predicted.append(predicted_error(short, plan, ids, seed=index))
    counted = max(1, positions - len(blocks))
    exact_perplexity, fixed_perplexity = np.exp(nats / counted)
    return Accuracy(
        predicted=float(np.sqrt(np.mean(np.square(predicted)))),
        measured=math.sqrt(squares / max(1, logits_seen)),
        largest=largest,
        perplexity=float(exact_perplexity),
        fixed_perplexity=float(fixed_perplexity),
        same_token=same / max(1, positions),
        positions=positions,
    )


def _nats(logits: np.ndarray, ids: np.ndarray) -> float:
    """Sum over positions of -log p(next id)."""
    rows = logits[:-1] - logits[:-1].max(axis=-1, keepdims=True)
    log_p = rows - np.log(np.exp(rows).sum(axis=-1, keepdims=True))
    return float(-log_p[np.arange(len(ids) - 1), ids[1:]].sum())


def predicted_error(program: Program, plan: RingPlan, ids: np.ndarray, seed: int = 0) -> float:
    """Root mean square error of the output if every rounding were independent and uniform in half a step either way
    (Widrow & Kollar 2008): one random sample of all of them, carried through the graph in float64."""
    rng = np.random.default_rng(seed)

    def rounded(x: np.ndarray, step: float) -> np.ndarray:
        return x + step * rng.uniform(-0.5, 0.5, x.shape)

    noisy = {name: rounded(w, plan.of_weight(name).step) for name, w in program.weights.items()}
    values: dict[str, np.ndarray] = {INPUT: ids}
    for node in program.graph.nodes:
        value = apply(node, [values[i] for i in node.inputs], [noisy[w] for w in node.weights])
        if isinstance(OPS[node.op].arithmetic, LookUp | Sum | Move):
            values[node.name] = value  # exact on integers of one format; the weight has been rounded
        else:
            values[node.name] = rounded(value, plan.of_value(program.graph, node.name).step)
            if value.ndim == 3:
                values[node.name] = np.where(value == 0, 0.0, values[node.name])  # above the diagonal
    error = values[program.graph.output] - interpret(program, ids)
    return float(np.sqrt(np.mean(error**2)))
