"""The server's weights, encoded for the protocols that multiply by them."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aero.engines.planning.stages import group_label
from aero.engines.planning.step_plans import embedding_plan, group_plans, has_row_gains, linear_plan
from aero.engines.planning.steps import Group
from aero.graph.ring_plan import RingPlan, encode, shift
from aero.kernels.lattice_noise import NoRoomError
from aero.mpc.plan import Plan
from aero.mpc.protocols.embedding import load_table
from aero.mpc.protocols.linear import LoadedWeights, load_weights

Loaded = LoadedWeights | NDArray[np.int64]
"""Encoded for a product, or as they are, for `known_factor`."""
MAX_BYTES = 4_000_000_000
"""Of encoded weights that are kept: GPT-2 small takes 1.0 to 1.4 GB for a prompt, as much again for single tokens, and
again for each size of batch that encodes them in its own way."""
Groups = Sequence[Group]
"""Of each prompt of a batch, the steps that go together."""


class WeightStore:
    """The server's weights as loaded for products: once for each matrix and plan, whichever graphs read it. Plans for
    other numbers of rows share what they encode alike.

    Loaded anew where the numbers given are others than before. Beyond `max_bytes` the longest unused go first, and
    never what the run at hand reads: a model that is larger by itself is held whole.
    """

    def __init__(self, plan: RingPlan, max_bytes: int = MAX_BYTES) -> None:
        if max_bytes < 0:
            raise ValueError(f"encoded weights cannot take {max_bytes} bytes; give 0 to keep those of one run alone")
        self._plan = plan
        self._max_bytes = max_bytes
        self._held: dict[_Key, tuple[list[np.ndarray], bytes, Loaded]] = {}

    def __len__(self) -> int:
        return len(self._held)

    @property
    def bytes_held(self) -> int:
        """What the encoded weights take; those that several plans share, once."""
        arrays = [loaded if isinstance(loaded, np.ndarray) else loaded.encoded for *_, loaded in self._held.values()]
        return sum({array.__array_interface__["data"][0]: array.nbytes for array in arrays}.values())

    def load(self, several: Sequence[Groups], weights: Mapping[str, np.ndarray]) -> None:
        """For the products of a run. NoRoomError, naming the nodes, for noise that would not fit."""
        needed = {_key(groups): groups for groups in several}
        for key, groups in needed.items():
            arrays = [np.asarray(weights[name]) for name in key.weights]
            held = self._held.pop(key, None)
            if held is not None and _same_arrays(arrays, held[0]):
                self._held[key] = held  # the last used stand last
                continue
            digest = _digest(arrays)
            loaded = held[2] if held is not None and held[1] == digest else self._load(groups, arrays, digest)
            self._held[key] = arrays, digest, loaded
            self._drop_unused(needed)

    def of(self, groups: Groups) -> Any:
        return self._held[_key(groups)][2]

    def clear(self) -> None:
        self._held.clear()

    def _drop_unused(self, needed: Container[_Key]) -> None:
        """The longest unused, as far as there is too much."""
        for key in [key for key in self._held if key not in needed]:
            if self.bytes_held <= self._max_bytes:
                return
            del self._held[key]

    def _load(self, groups: Groups, arrays: list[np.ndarray], digest: bytes) -> Loaded:
        names, alike = _key(groups).weights, []
        for key, (_, other, loaded) in self._held.items():
            if (key.weights, other) == (names, digest) and isinstance(loaded, LoadedWeights):
                alike.append(loaded)
        return _load(self._plan, groups, arrays, alike)


class _Key(NamedTuple):
    op: str
    weights: tuple[str, ...]
    plan: Plan


def _key(groups: Groups) -> _Key:
    """Rows of a weight differ from prompt to prompt; a matrix is the same for all."""
    first = groups[0][0]
    several = groups if has_row_gains(first) else groups[:1]
    [plan] = group_plans(*groups)
    return _Key(first.node.op, tuple(step.node.weights[0] for group in several for step in group), plan)


def _same_arrays(arrays: list[np.ndarray], before: list[np.ndarray]) -> bool:
    """Whether these are the very same arrays, and nobody could have changed them through these names."""
    return all(a is b and not a.flags.writeable for a, b in zip(arrays, before, strict=True))


def _digest(arrays: list[np.ndarray]) -> bytes:
    total = hashlib.sha256()
    for array in arrays:
        total.update(np.ascontiguousarray(array, dtype=np.float64).data)
    return total.digest()


def _load(plan: RingPlan, groups: Groups, arrays: list[np.ndarray], alike: list[LoadedWeights]) -> Loaded:
    """alike: the same weights, for other plans."""
    first = groups[0][0]
    if has_row_gains(first):
        names = [group[0].node.weights[0] for group in groups]
        return np.concatenate([encode(name, w, plan.of_weight(name)) for name, w in zip(names, arrays, strict=True)])
    matrix = encoded_matrix(plan, groups[0], arrays)
    try:
        if first.node.op == "embedding":
            return load_table(embedding_plan(*(group[0] for group in groups)), matrix, alike)
        return load_weights(linear_plan(*groups), matrix, alike=alike)
    except NoRoomError as error:
        raise NoRoomError(f"{group_label(groups[0])}: {error}") from None


def encoded_matrix(plan: RingPlan, group: Group, arrays: Sequence[np.ndarray]) -> NDArray[np.int64]:
    """What the steps of a group are multiplied by together, in fixed point: their weights side by side, the diagonal of
    a gain, the table of an embedding."""
    matrices, first = [], group[0]
    for step, array in zip(group, arrays, strict=True):
        w = np.asarray(array, dtype=np.float64)
        if step.node.op == "gain":
            w = np.diag(np.broadcast_to(w, (step.input_shapes[0][1],)))
        name = step.node.weights[0]
        matrices.append(encode(name, w, plan.of_weight(name)))
    if first.node.op == "embedding":
        return shift(matrices[0], plan.of_weight(first.node.weights[0]).fraction_bits - first.output.fraction_bits)
    return np.concatenate(matrices, axis=1)
