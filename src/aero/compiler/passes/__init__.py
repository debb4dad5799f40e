"""Exact rewrites, one per file: each takes a program and returns one that computes the same function.

A pass states its identity in its docstring, checks its precondition, and never alters what it was given; where it finds
nothing to do it returns its very argument. `PASSES` are those that need nothing but a program; `aero.compiler.compile`
states the order.
"""

from collections.abc import Callable

from aero.compiler.passes.centre_residual import centre_residual
from aero.compiler.passes.drop_attention_biases import drop_attention_biases
from aero.compiler.passes.drop_identities import drop_identities
from aero.compiler.passes.eliminate_ffn import eliminate_ffn
from aero.compiler.passes.fold_into_next import fold_into_next
from aero.compiler.passes.fold_into_previous import fold_into_previous
from aero.compiler.passes.join_gains import join_gains
from aero.compiler.passes.last_position import last_position
from aero.compiler.passes.merge_branches import merge_branches
from aero.compiler.passes.merge_linears import merge_linears
from aero.compiler.passes.sink_scalar_gains import sink_scalar_gains
from aero.compiler.passes.softmax_base_two import softmax_base_two
from aero.graph import Program

Pass = Callable[[Program], Program]

# Constants move into weights; repeated until nothing changes, as each opens the way for others.
FOLDS: tuple[Pass, ...] = (drop_identities, fold_into_next, fold_into_previous)

PASSES: tuple[Pass, ...] = (
    *FOLDS,
    drop_attention_biases,
    merge_linears,
    merge_branches,
    sink_scalar_gains,
    eliminate_ffn,
    join_gains,
    centre_residual,
    softmax_base_two,
    last_position,
)

__all__ = [
    "FOLDS", "PASSES", "Pass", "centre_residual", "drop_attention_biases", "drop_identities", "eliminate_ffn",
    "fold_into_next", "fold_into_previous", "join_gains", "last_position", "merge_branches", "merge_linears",
    "sink_scalar_gains", "softmax_base_two",
]  # fmt: skip
