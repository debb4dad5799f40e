"""How large the values of a program become: on text, and at worst."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from aero.compiler.positions import prefix
from aero.graph import OPS, Node, Program, interpret
from aero.graph.graph import INPUT
from aero.graph.heads import live_mask
from aero.graph.ops.sheet import mask_of


@dataclass(frozen=True)
class Range:
    """Largest magnitude of a value: on the text that was read, and for any text whatever (infinite: no bound)."""

    seen: float
    worst: float


Off = Callable[[Node], float]
"""By how much an engine's value of a node may be off what it computes it from."""


def exact(node: Node) -> float:
    return 0.0


def ranges(program: Program, blocks: Iterable[np.ndarray], off: Off = exact) -> dict[str, Range]:
    """The range of every node's value, the worst with errors. blocks: token ids [n], each read as one prompt.

    Raises ValueError, naming the layer, where a value is not finite.
    """
    seen = dict.fromkeys(program.graph.by_name, 0.0)

    def look(name: str, value: np.ndarray) -> None:
        largest = float(np.abs(value).max())
        if not np.isfinite(largest):
            raise ValueError(f"{name}: not a finite number on the calibration text; train the model again")
        seen[name] = max(seen[name], largest)

    for ids in blocks:
        interpret(prefix(program, len(ids)), ids, keep=look)
    worst = worst_case(program, off)
    return {name: Range(largest, float(worst[name].max())) for name, largest in seen.items()}


def worst_case(program: Program, off: Off = exact) -> dict[str, np.ndarray]:
    """A bound on |value| for any text, for each feature (each head, of scores): intervals carried through the graph,
    with the errors of each value in what follows from it.

    Sound, and loose: it doubles and redoubles along the residual stream, so it helps for the first layers, what follows
    a norm, and probabilities.
    """
    bounds: dict[str, np.ndarray] = {}
    for node in program.graph.nodes:
        x = [bounds[name] for name in node.inputs if name != INPUT]
        w = [np.abs(program.weights[name]) for name in node.weights]
        bounds[node.name] = OPS[node.op].bound(*x, *w, **node.attrs) + off(node)
    return bounds


@dataclass(frozen=True)
class RowMaxima:
    """Of one head's scores: the lowest and the highest maximum of a row, and the lowest live score."""

    low: float
    high: float
    lowest: float


def row_maxima(program: Program, blocks: Iterable[np.ndarray]) -> dict[str, list[RowMaxima]]:
    """By softmax, for each head; over all rows but those that see one key, whose score does not matter."""
    softmax = {n.inputs[0]: n for n in program.graph.nodes if n.op == "softmax"}
    found: dict[str, np.ndarray] = {}

    def look(name: str, scores: np.ndarray) -> None:
        if name not in softmax:
            return
        node = softmax[name]
        live = live_mask(*scores.shape[1:], mask=mask_of(node.attrs))
        several = live.sum(axis=1) > 1
        if not several.any():
            return
        row_max = np.where(live, scores, -np.inf).max(axis=-1)[:, several]
        lowest = np.where(live, scores, np.inf)[:, several].min(axis=(1, 2))
        new = np.stack([row_max.min(axis=1), -row_max.max(axis=1), lowest])
        old = found.get(node.name)
        found[node.name] = new if old is None else np.minimum(old, new)

    for ids in blocks:
        interpret(prefix(program, len(ids)), ids, keep=look)
    return {
        name: [RowMaxima(float(a), float(-b), float(c)) for a, b, c in low_high.T] for name, low_high in found.items()
    }
