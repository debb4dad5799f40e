"""The server's weights, encoded for the protocols that multiply by them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aero.engines.memory import of_machine
from aero.engines.planning.stages import group_label
from aero.engines.planning.step_plans import WeightPlan, weight_plan
from aero.engines.planning.steps import LOOK_UPS, WEIGHTED, WHOLE, Group, Step, added_format, has_row_gains
from aero.graph.ring_plan import Format, RingPlan, shift
from aero.graph.serialize import give_pages_back
from aero.kernels.lattice_matmul import Columns, bytes_for, bytes_of, empty_part, packed_integers
from aero.kernels.lattice_noise import ColumnSizes, Noise, NoRoomError, require_noise
from aero.kernels.rlwe import Words
from aero.mpc.protocols.embedding import MAX_BLOCKS, EmbeddingPlan, side_by_side
from aero.mpc.protocols.grouped_embedding import MAX_HALF, GroupedPlan, LoadedTable, arranged, load_groups
from aero.mpc.protocols.linear import LinearPlan, LoadedWeights, product_noise

MACHINE_SHARE = 4
"""Transforms that are kept take that part of the machine's memory at most, unless told otherwise."""
_AT_ONCE = 384  # rows and columns that are encoded together: they stay in the cache
Groups = Sequence[Group]
"""Of each prompt of a batch, the steps that go together."""


class WeightStore:
    """The server's weights as products read them: whole numbers by columns, each matrix once, whatever steps read it
    and for however many rows; and, up to `max_bytes`, the transforms that products with a single row read, and those of
    more rows that are cut alike, which are made anew in each product where they find no place.
    max_bytes: by default `default_bytes()`.

    A matrix is encoded when it is first needed, and again where the numbers given are others than before. Processes
    that are forked afterwards share what there is: `aero.engines.two_party.room.check_room` encodes all of a model.
    """

    def __init__(self, plan: RingPlan, max_bytes: int | None = None) -> None:
        max_bytes = default_bytes() if max_bytes is None else max_bytes
        if max_bytes < 0:
            raise ValueError(f"transforms cannot take {max_bytes} bytes; give 0 to keep none")
        self._plan = plan
        self._max_bytes = max_bytes
        self._matrices: dict[tuple[str, int], _Matrix] = {}
        self._transforms: dict[tuple[object, ...], tuple[list[_Matrix], Words]] = {}
        self._loaded: dict[_Key, tuple[list[_Matrix], LoadedWeights | LoadedTable]] = {}
        self._numbers: dict[tuple[str, Format], NDArray[np.int64]] = {}

    @property
    def encoded_bytes(self) -> EncodedBytes:
        numbers = sum(matrix.nbytes for matrix in self._matrices.values())
        return EncodedBytes(numbers, sum(words.nbytes for _, words in self._transforms.values()))

    def load(self, several: Sequence[Groups], weights: Mapping[str, np.ndarray]) -> None:
        """For the steps of a run. NoRoomError, naming the nodes, for noise that would not fit."""
        before, self._loaded, self._numbers = self._loaded, {}, {}
        for groups in several:
            for step in (step for group in groups for step in group):
                named = {name: added_format(step) for name in step.node.added}
                if has_row_gains(step):
                    named[step.node.weights[0]] = self._plan.of_weight(step.node.weights[0])
                self._numbers |= {(name, fmt): fmt.encode(weights[name], name) for name, fmt in named.items()}
            if not _has_matrix(groups):
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
                known = matrices, self._load(plan, matrices, noise)
            self._loaded[key] = known

    def of(self, groups: Groups) -> Any:
        """The matrix that was loaded for their product in the last run, as their plan wants it given: `LoadedWeights`,
        or `LoadedTable`."""
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
        """Make the transforms of their matrix that a product with a single row reads, where there is room; or the
        arrangements of a table."""
        matrices = self._matrices_of(group, weights)
        if isinstance(plan, GroupedPlan):
            matrices[0].arranged(plan)
        else:
            self._encoded(plan, matrices)

    def _matrices_of(self, group: Group, weights: Mapping[str, np.ndarray]) -> list[_Matrix]:
        return [self._matrix(step, np.asarray(weights[step.node.weights[0]])) for step in group]

    def _matrix(self, step: Step, array: np.ndarray) -> _Matrix:
        key = _matrix_key(step)
        encoded = self._matrices.get(key)
        if encoded is None or not (encoded.array is array or np.array_equal(encoded.array, array)):
            self._transforms = {k: v for k, v in self._transforms.items() if encoded is None or encoded not in v[0]}
            kept = array.copy() if array.flags.writeable else array  # what was given may be altered later
            encoded = self._matrices[key] = _Matrix(kept, _by_columns(self._plan, step, array))
        return encoded

    def _load(self, plan: WeightPlan, matrices: list[_Matrix], noise: Noise) -> LoadedWeights | LoadedTable:
        if isinstance(plan, GroupedPlan):
            return load_groups(plan, matrices[0].arranged(plan), noise)
        return LoadedWeights(linear_of(plan), self._encoded(plan, matrices), noise)

    def _noise(self, plan: WeightPlan, matrices: Sequence[_Matrix]) -> Noise:
        if isinstance(plan, GroupedPlan):  # of a group, as if it had all rows: no number is larger for it
            whole = matrices[0].whole_sizes(plan)
            return product_noise(plan.product, whole, nonzero=plan.one_for_each_row) + plan.order_noise
        if isinstance(plan, EmbeddingPlan):
            sizes = matrices[0].sizes_of(plan.blocks, side_by_side(plan, matrices[0].columns))
            return product_noise(plan.product, sizes, nonzero=plan.one_for_each_row)
        sizes = ColumnSizes.joined([matrix.sizes_of(1, Columns((matrix.columns,))) for matrix in matrices])
        return product_noise(plan, sizes)

    def _encoded(self, plan: LinearPlan | EmbeddingPlan, matrices: list[_Matrix]) -> Columns | Words:
        linear = linear_of(plan)
        if isinstance(plan, EmbeddingPlan):
            columns = side_by_side(plan, matrices[0].columns)
        else:
            columns = Columns(tuple(matrix.columns for matrix in matrices))
        if not linear.prepared:
            return columns
        product, key = linear.product, (*map(id, matrices), *_cut(plan))
        if key not in self._transforms:
            if self.encoded_bytes.transforms + 8 * product.prepared_size > self._max_bytes:
                return columns
            self._transforms[key] = matrices, product.prepare_weights(columns)
        return self._transforms[key][1]


class EncodedBytes(NamedTuple):
    """Memory that encoded weights take. numbers: of matrices. transforms: that are kept beside them."""

    numbers: int
    transforms: int


def default_bytes() -> int:
    """Of transforms, on this machine."""
    return of_machine() // MACHINE_SHARE


def encoded_bytes(several: Sequence[Groups], plan: RingPlan, max_bytes: int | None = None) -> EncodedBytes:
    """What a store takes, at most, that has loaded the steps of some runs, as public formats tell: a matrix whose
    largest number is smaller than its format allows may take a byte a number less."""
    max_bytes = default_bytes() if max_bytes is None else max_bytes
    numbers: dict[tuple[tuple[str, int], int], int] = {}
    transforms: dict[tuple[object, ...], int] = {}
    for groups in filter(_has_matrix, several):
        for step in groups[0]:
            bits, op = plan.of_weight(step.node.weights[0]).bits, step.node.op
            inner, columns = step.weight_shapes[0] if op in (*WHOLE, *LOOK_UPS) else 2 * step.input_shapes[0][1:]
            if op in LOOK_UPS:  # rounding may reach a power of two
                bits, inner = bits + 1 - min(0, _dropped(plan, step)), inner + MAX_BLOCKS - 1
            numbers[_matrix_key(step), 0] = inner * columns * bytes_for(bits)
        taken = weight_plan(*groups)
        if isinstance(taken, GroupedPlan):
            numbers[_matrix_key(groups[0][0]), 1] = 2 * taken.columns * (taken.rows + MAX_HALF - 1) * bytes_for(bits)
        key = *map(_matrix_key, groups[0]), *_cut(taken)
        size = 8 * linear_of(taken).product.prepared_size if linear_of(taken).prepared else 0
        if size and key not in transforms and sum(transforms.values()) + size <= max_bytes:
            transforms[key] = size
    return EncodedBytes(sum(numbers.values()), sum(transforms.values()))


@dataclass(eq=False)
class _Matrix:
    """array: as it was given. columns: integers [M, K]; of a table, with `MAX_BLOCKS` - 1 zeros behind each."""

    array: np.ndarray
    columns: NDArray[Any]
    _sizes: dict[int, ColumnSizes] = field(default_factory=dict)
    _arranged: tuple[NDArray[Any], ...] = ()

    @property
    def nbytes(self) -> int:
        return self.columns.nbytes + sum(part.nbytes for part in self._arranged)

    def arranged(self, plan: GroupedPlan) -> tuple[NDArray[Any], ...]:
        """A table once more, twice, for look-ups of many ids: the same for all of them."""
        if not self._arranged:
            self._arranged = arranged(self.columns, plan.rows)
        return self._arranged

    def whole_sizes(self, plan: GroupedPlan) -> ColumnSizes:
        """Of a table's columns as they are, from those of its blocks where these are known."""
        if not self._sizes:
            return self.sizes_of(1, Columns((self.columns[:, : plan.rows],)))
        blocks, sizes = next(iter(self._sizes.items()))
        l1, l2 = (part.reshape(blocks, plan.columns).sum(axis=0)[None] for part in (sizes.l1, sizes.l2_squared))
        return ColumnSizes(l1, l2, sizes.largest)

    def sizes_of(self, blocks: int, columns: Columns) -> ColumnSizes:
        if blocks not in self._sizes:
            self._sizes[blocks] = ColumnSizes.of_columns(columns)
        return self._sizes[blocks]


class _Key(NamedTuple):
    op: str
    weights: tuple[str, ...]
    plan: WeightPlan


def _has_matrix(groups: Groups) -> bool:
    first = groups[0][0]
    return first.node.op in WEIGHTED and not has_row_gains(first)


def _matrix_key(step: Step) -> tuple[str, int]:
    return step.node.weights[0], step.output.fraction_bits if step.node.op in LOOK_UPS else 0


def _cut(plan: WeightPlan) -> tuple[object, ...]:
    """What the transforms of a matrix depend on."""
    product = linear_of(plan).product
    return plan.blocks if isinstance(plan, EmbeddingPlan) else 1, product.params, product.d1, product.d2


def _key(groups: Groups) -> _Key:
    """The matrix is the same for all prompts."""
    first = groups[0][0]
    return _Key(first.node.op, tuple(step.node.weights[0] for step in groups[0]), weight_plan(*groups))


def linear_of(plan: WeightPlan) -> LinearPlan:
    """The product within a look-up; a product of a linear layer as it is."""
    return plan if isinstance(plan, LinearPlan) else plan.product


def _same(some: Sequence[_Matrix], others: Sequence[_Matrix]) -> bool:
    return all(a is b for a, b in zip(some, others, strict=True))


def _by_columns(plan: RingPlan, step: Step, array: np.ndarray) -> NDArray[Any]:
    """What a step is multiplied by, as `_Matrix` has it: a part at a time, so that nothing large is made besides."""
    op = step.node.op
    if op not in (*WHOLE, *LOOK_UPS):
        return Columns.of(encoded_matrix(plan, step, array)).parts[0]
    inner, columns = step.weight_shapes[0]
    rows = [slice(row, row + _AT_ONCE) for row in range(0, inner, _AT_ONCE)]
    ends = np.array([[end for some in rows for end in _ends(array[some])]])
    found = encoded_matrix(plan, step, ends)
    size = bytes_of(found.min(), found.max())
    out = empty_part((columns, inner + (MAX_BLOCKS - 1) * (op in LOOK_UPS)), size)
    for some in rows:
        for column in range(0, columns, _AT_ONCE):
            block = encoded_matrix(plan, step, array[some, column : column + _AT_ONCE])
            out[column : column + _AT_ONCE, some.start : some.start + len(block)] = packed_integers(block.T, size)
        give_pages_back(array[some])
    return out


def _ends(array: np.ndarray) -> tuple[float, float]:
    ends = float(array.min()), float(array.max())
    give_pages_back(array)
    return ends


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
