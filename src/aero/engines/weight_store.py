"""The server's weights, encoded for the protocols that multiply by them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aero.engines.on_shares import Step, group_label
from aero.engines.plain import encode, shift
from aero.engines.step_plans import embedding_plan, group_plan, has_row_gains, linear_plan
from aero.graph.ring_plan import RingPlan
from aero.mpc.protocols.embedding import load_table
from aero.mpc.protocols.linear import LoadedWeights, load_weights

Loaded = LoadedWeights | NDArray[np.int64]
"""Encoded for a product, or as they are, for `known_factor`."""
MAX_LOADED = 320
"""Products whose weights are kept loaded: those of a model of some 36 layers, for a prompt and for single tokens."""


class WeightStore:
    """The server's weights as loaded for products: once for each matrix and plan, whichever graph reads it.

    Loaded anew where the numbers given are others than before. The longest unused go first, beyond `MAX_LOADED`
    products and beyond what the graph at hand reads.
    """

    def __init__(self, plan: RingPlan) -> None:
        self._plan = plan
        self._held: dict[tuple[Any, ...], tuple[list[np.ndarray], bytes, Loaded]] = {}

    def __len__(self) -> int:
        return len(self._held)

    def load(self, groups: Sequence[tuple[Step, ...]], weights: Mapping[str, np.ndarray]) -> None:
        """ValueError, naming the nodes, for noise that would not fit."""
        for group in groups:
            key, arrays = self._key(group), [np.asarray(weights[step.node.weights[0]]) for step in group]
            held = self._held.pop(key, None)
            if held is None or not _same_arrays(arrays, held[0]):
                digest = _digest(arrays)
                loaded = held[2] if held is not None and held[1] == digest else _load(self._plan, group, arrays)
                held = arrays, digest, loaded
            self._held[key] = held  # the last used stand last
        for key in list(self._held)[: max(0, len(self._held) - max(MAX_LOADED, len(groups)))]:
            del self._held[key]

    def of(self, group: tuple[Step, ...]) -> Any:
        return self._held[self._key(group)][2]

    def clear(self) -> None:
        self._held.clear()

    def _key(self, group: tuple[Step, ...]) -> tuple[Any, ...]:
        plan = group_plan(group)
        return tuple((step.node.op, step.node.weights[0]) for step in group), plan


def _same_arrays(arrays: list[np.ndarray], before: list[np.ndarray]) -> bool:
    """Whether these are the very same arrays, and nobody could have changed them through these names."""
    return all(a is b and not a.flags.writeable for a, b in zip(arrays, before, strict=True))


def _digest(arrays: list[np.ndarray]) -> bytes:
    total = hashlib.sha256()
    for array in arrays:
        total.update(np.ascontiguousarray(array, dtype=np.float64).data)
    return total.digest()


def _load(plan: RingPlan, group: tuple[Step, ...], arrays: list[np.ndarray]) -> Loaded:
    matrices = []
    for step, array in zip(group, arrays, strict=True):
        w = np.asarray(array, dtype=np.float64)
        if step.node.op == "gain" and not has_row_gains(step):
            w = np.diag(np.broadcast_to(w, (step.input_shapes[0][1],)))
        name = step.node.weights[0]
        matrices.append(encode(name, w, plan.of_weight(name)))
    if has_row_gains(group[0]):
        return matrices[0]
    try:
        if group[0].node.op == "embedding":
            held, out = plan.of_weight(group[0].node.weights[0]), group[0].output
            return load_table(embedding_plan(group[0]), shift(matrices[0], held.fraction_bits - out.fraction_bits))
        return load_weights(linear_plan(group), np.concatenate(matrices, axis=1))
    except ValueError as error:
        raise ValueError(f"{group_label(group)}: {error}") from None
