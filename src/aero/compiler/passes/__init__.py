"""Exact rewrites, one per file: each takes a program and returns one that computes the same function.

A pass states its identity in its docstring, checks its precondition, and never alters what it was given.
`PASSES` is the order in which `aero.compiler.compile` runs them, again and again until nothing changes.
"""

from collections.abc import Callable

from aero.compiler.passes.fold_into_next import fold_into_next
from aero.compiler.passes.fold_into_previous import fold_into_previous
from aero.compiler.passes.sink_scalar_gains import sink_scalar_gains
from aero.graph import Program

PASSES: tuple[Callable[[Program], Program], ...] = (fold_into_next, fold_into_previous, sink_scalar_gains)

__all__ = ["PASSES", "fold_into_next", "fold_into_previous", "sink_scalar_gains"]
