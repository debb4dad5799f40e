"""The server's weights, encoded for the protocols that multiply by them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aero.engines.planning.stages import group_label
from aero.engines.planning.step_plans import WeightPlan, weight_plan
from aero.engines.planning.steps import LOOK_UPS, WEIGHTED, WHOLE, Group, Step, added_format, has_row_gains
from aero.graph.ring_plan import Format, RingPlan, shift
from aero.kernels.lattice_matmul import Columns, integer_type
from aero.kernels.lattice_noise import ColumnSizes, Noise, NoRoomError, require_noise
from aero.kernels.rlwe import Words
from aero.mpc.protocols.embedding import MAX_BLOCKS, EmbeddingPlan, one_for_each_row, side_by_side
from aero.mpc.protocols.linear import LinearPlan, LoadedWeights, product_noise

MAX_BYTES = 4_000_000_000
"""Of transforms that are kept: those of GPT-2 small, for single tokens, take 1.3 GB."""
_AT_ONCE = 384  # rows and columns that are encoded together: they stay in the cache
Groups = Sequence[Group]
"""Of each prompt of a batch, the steps that go together."""


class WeightStore:
    """The server's weights as products read them: whole numbers by columns, each matrix once, whatever steps read it
    and for however many rows; and, up to `max_bytes`, the transforms that products with a single row read, which are
    made anew in each product where they find no place.

    A matrix is encoded when it is first needed, and again where the numbers given are others than before. Processes
    that are forked afterwards share what there is: `aero.engines.two_party.room.check_room` encodes all of a model.
    """

    def __init__(self, plan: RingPlan, max_bytes: int = MAX_BYTES) -> None:
        if max_bytes < 0:
            raise ValueError(f"transforms cannot take {max_bytes} bytes; give 0 to keep none")
        self._plan = plan
        self._max_bytes = max_bytes
        self._matrices: dict[tuple[str, int], _Matrix] = {}
        self._transforms: dict[tuple[object, ...], tuple[list[_Matrix], Words]] = {}
        self._loaded: dict[_Key, tuple[list[_Matrix], LoadedWeights]] = {}
        self._numbers: dict[tuple[str, Format], NDArray[np.int64]] = {}

    @property
    def bytes_of_transforms(self) -> int:
        return sum(words.nbytes for _, words in self._transforms.values())

    def load(self, several: Sequence[Groups], weights: Mapping[str, np.ndarray]) -> None:
        """For the steps of a run. NoRoomError, naming the nodes, for noise that would not fit."""
        before, self._loaded, self._numbers = self._loaded, {}, {}
        for groups in several:
            first = groups[0][0]
            for step in (step for group in groups for step in group):
                named = {name: added_format(step) for name in step.node.added}
                if has_row_gains(step):
                    named[step.node.weights[0]] = self._plan.of_weight(step.node.weights[0])
                self._numbers |= {(name, fmt): fmt.encode(weights[name], name) for name, fmt in named.items()}
            if first.node.op not in WEIGHTED or has_row_gains(first):
                continue
            key = _key(groups)
            matrices, known = self._matrices_of(groups[0], weights), before.get(key)
            if known is None or not _same(known[0], matrices):
                plan = weight_plan(*groups)
                noise = self._noise(plan, matrices)
                try:
                    require_noise(noise, linear_of(plan).max_error)
                except NoRoomError as error:
                    raise NoRoomError(f"{group_label(groups[0])}: {error}") from None
                known = matrices, LoadedWeights(linear_of(plan), self._encoded(plan, matrices), noise)
            self._loaded[key] = known

    def of(self, groups: Groups) -> LoadedWeights:
        """The matrix that was loaded for their product in the last run."""
        return self._loaded[_key(groups)][1]

    def factors(self, groups: Groups) -> NDArray[np.int64]:
        """A factor for each number, of all prompts, as they were loaded in the last run."""
        names = [group[0].node.weights[0] for group in groups]
        return np.concatenate([self._numbers[name, self._plan.of_weight(name)] for name in names])

    def added(self, step: Step, name: str) -> NDArray[np.int64]:
        """What a step adds, as it was loaded in the last run."""
        return self._numbers[name, added_format(step)]

    def noise(self, group: Group, plan: WeightPlan, weights: Mapping[str, np.ndarray]) -> Noise:
        """Of the product that the steps of a group are."""
        return self._noise(plan, self._matrices_of(group, weights))

    def encode(self, step: Step, weights: Mapping[str, np.ndarray]) -> None:
        """Its matrix. Threads may encode different matrices side by side."""
        self._matrices_of((step,), weights)

    def transform(self, group: Group, plan: WeightPlan, weights: Mapping[str, np.ndarray]) -> None:
        """Make the transforms of their matrix that a product with a single row reads, where there is room."""
        self._encoded(plan, self._matrices_of(group, weights))

    def _matrices_of(self, group: Group, weights: Mapping[str, np.ndarray]) -> list[_Matrix]:
        return [self._matrix(step, np.asarray(weights[step.node.weights[0]])) for step in group]

    def _matrix(self, step: Step, array: np.ndarray) -> _Matrix:
        name = step.node.weights[0]
        key = name, step.output.fraction_bits if step.node.op in LOOK_UPS else 0
        encoded = self._matrices.get(key)
        if encoded is None or not (encoded.array is array or np.array_equal(encoded.array, array)):
            self._transforms = {k: v for k, v in self._transforms.items() if encoded is None or encoded not in v[0]}
            kept = array.copy() if array.flags.writeable else array  # what was given may be altered later
            encoded = self._matrices[key] = _Matrix(kept, _by_columns(self._plan, step, array))
        return encoded

    def _noise(self, plan: WeightPlan, matrices: Sequence[_Matrix]) -> Noise:
        if isinstance(plan, EmbeddingPlan):
            sizes = matrices[0].sizes_of(plan.blocks, side_by_side(plan, matrices[0].columns))
            return product_noise(plan.product, sizes, nonzero=one_for_each_row(plan))
        sizes = ColumnSizes.joined([matrix.sizes_of(1, Columns((matrix.columns,))) for matrix in matrices])
        return product_noise(plan, sizes)

    def _encoded(self, plan: WeightPlan, matrices: list[_Matrix]) -> Columns | Words:
        linear, blocks = linear_of(plan), 1
        if isinstance(plan, EmbeddingPlan):
            columns, blocks = side_by_side(plan, matrices[0].columns), plan.blocks
        else:
            columns = Columns(tuple(matrix.columns for matrix in matrices))
        if not linear.prepared:
            return columns
        product = linear.product
        key = *map(id, matrices), blocks, product.params, product.d1, product.d2
        if key not in self._transforms:
            if self.bytes_of_transforms + 8 * product.prepared_size > self._max_bytes:
                return columns
            self._transforms[key] = matrices, product.prepare_weights(columns)
        return self._transforms[key][1]


@dataclass(eq=False)
class _Matrix:
    """array: as it was given. columns: integers [M, K]; of a table, with `MAX_BLOCKS` - 1 zeros behind each."""

    array: np.ndarray
    columns: NDArray[Any]
    _sizes: dict[int, ColumnSizes] = field(default_factory=dict)

    def sizes_of(self, blocks: int, columns: Columns) -> ColumnSizes:
        if blocks not in self._sizes:
            self._sizes[blocks] = ColumnSizes.of_columns(columns)
        return self._sizes[blocks]


class _Key(NamedTuple):
    op: str
    weights: tuple[str, ...]
    plan: WeightPlan


def _key(groups: Groups) -> _Key:
    """The matrix is the same for all prompts."""
    first = groups[0][0]
    return _Key(first.node.op, tuple(step.node.weights[0] for step in groups[0]), weight_plan(*groups))


def linear_of(plan: WeightPlan) -> LinearPlan:
    """The product within a look-up; a product of a linear layer as it is."""
    return plan.product if isinstance(plan, EmbeddingPlan) else plan


def _same(some: Sequence[_Matrix], others: Sequence[_Matrix]) -> bool:
    return all(a is b for a, b in zip(some, others, strict=True))


def _by_columns(plan: RingPlan, step: Step, array: np.ndarray) -> NDArray[Any]:
    """What a step is multiplied by, as `_Matrix` has it: a part at a time, so that nothing large is made besides."""
    op, bits = step.node.op, plan.of_weight(step.node.weights[0]).bits
    if op not in (*WHOLE, *LOOK_UPS):
        return Columns.of(encoded_matrix(plan, step, array)).parts[0]
    inner, columns = step.weight_shapes[0]
    padding = 0
    if op in LOOK_UPS:
        padding, bits = MAX_BLOCKS - 1, bits + 1 - min(0, _dropped(plan, step))  # rounding may reach a power of two
    out = np.zeros((columns, inner + padding), integer_type(bits))
    for row in range(0, inner, _AT_ONCE):
        for column in range(0, columns, _AT_ONCE):
            some = encoded_matrix(plan, step, array[row : row + _AT_ONCE, column : column + _AT_ONCE])
            out[column : column + some.shape[1], row : row + len(some)] = some.T
    return out


def encoded_matrix(plan: RingPlan, step: Step, array: np.ndarray) -> NDArray[np.int64]:
    """What a step is multiplied by, in fixed point: its weights, the diagonal of a gain, the table of an embedding; or
    a part of it."""
    name = step.node.weights[0]
    matrix = plan.of_weight(name).encode(array, name)
    if step.node.op in LOOK_UPS:
        return shift(matrix, _dropped(plan, step))
    return matrix if step.node.op in WHOLE else np.diag(np.broadcast_to(matrix, (step.input_shapes[0][1],)))


def _dropped(plan: RingPlan, step: Step) -> int:
    """Fractional bits that a table's rows have more than what is looked up."""
    return plan.of_weight(step.node.weights[0]).fraction_bits - step.output.fraction_bits
