"""The closed set of operations: one sheet each, in a file of the operation's name."""

from collections.abc import Collection, Mapping
from types import MappingProxyType

from aero.graph.ops import (
    add,
    attend,
    bias,
    concat_columns,
    concat_rows,
    embedding,
    gain,
    gelu,
    layer_norm,
    linear,
    mean_rows,
    multiply,
    relu,
    rms_norm,
    rotary,
    rows,
    scale,
    scores,
    silu,
    softmax,
    tanh,
)
from aero.graph.ops.sheet import Arithmetic, Attrs, Shape, Sheet

_FILES = (
    embedding, linear, gain, bias, scale, add, multiply, layer_norm, rms_norm, relu, gelu, silu, tanh, rotary, scores,
    softmax, attend, rows, concat_rows, concat_columns, mean_rows,
)  # fmt: skip

OPS: Mapping[str, Sheet] = MappingProxyType({file.__name__.rpartition(".")[2]: file.SHEET for file in _FILES})


def of_arithmetic(*kinds: type[Arithmetic]) -> tuple[str, ...]:
    """The operations of these kinds."""
    return tuple(name for name, sheet in OPS.items() if isinstance(sheet.arithmetic, kinds))


def require_all(what: str, table: Collection[str], operations: Collection[str] = OPS) -> None:
    """TypeError unless a table has an entry for each of these operations, and no other."""
    if wrong := set(table) ^ set(operations):
        raise TypeError(f"{what} and the operations differ: {', '.join(sorted(wrong))}")


__all__ = ["OPS", "Attrs", "Shape", "Sheet", "of_arithmetic", "require_all"]
