"""What the compiler makes: a program for every position of the context, and of it those that engines run.

Without torch: who serves a compiled model needs none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aero.compiler.passes.eliminate_ffn import FFNChoice
from aero.compiler.positions import decode, prefill, prefix
from aero.graph import Graph, Program
from aero.graph.task import GENERATE, Task

if TYPE_CHECKING:
    from aero.compiler.verify import Verification

MAX_PROGRAMS = 256
"""Programs that are kept made: a session asks for one for each number of tokens, which its client chooses."""


@dataclass(frozen=True)
class CompilerStage:
    """What the graph was after a step of the compiler; every position's logits are still computed."""

    name: str
    graph: Graph


@dataclass(frozen=True)
class Compiled:
    """A compiled model.

    program: the logits [T, V] of every position of the context; engines get one of the programs below.
    stages: the graph as it was lowered, and after each step that changed it.
    ffn: the form that the FFNs of a Softmax-only model took; None for other models.
    verification: the comparison with the model; None where it was not asked for.
    end_tokens: ids after which a text of the model has ended. task: what the outputs are for.
    """

    program: Program
    stages: tuple[CompilerStage, ...] = ()
    ffn: FFNChoice | None = None
    verification: Verification | None = None
    end_tokens: tuple[int, ...] = ()
    task: Task = GENERATE
    _programs: dict[tuple[str, int, int], Program] = field(default_factory=dict, repr=False, compare=False)

    @property
    def context(self) -> int:
        return self.program.graph.length

    def every_position(self, length: int) -> Program:
        """The logits [length, V] of all positions of a prompt. ValueError beyond the context."""
        return self._cached("prefix", length, 0, lambda: prefix(self.program, length))

    def prefill(self, length: int, *, leave_state: bool = False) -> Program:
        """The logits [1, V] of a prompt's last position, or an encoder's output. ValueError beyond the context.

        leave_state: the engine keeps keys and values, for `decode`.
        """
        make = lambda: prefill(self.program, length, leave_state=leave_state)  # noqa: E731
        return self._cached("prefill", length, leave_state, make)

    def decode(self, past: int, length: int = 1, outputs: int = 1) -> Program:
        """The logits [outputs, V] of the last of `length` tokens after `past` others, from the state that their run
        left in the engine."""
        make = lambda: decode(self.program, past, length, outputs)  # noqa: E731
        return self._cached(f"decode {outputs}", length, past, make)

    def _cached(self, kind: str, length: int, past: int, make: Callable[[], Program]) -> Program:
        key = (kind, length, past)
        program = self._programs.pop(key, None) or make()
        self._programs[key] = program  # the last used stand last
        while len(self._programs) > MAX_PROGRAMS:
            del self._programs[next(iter(self._programs))]
        return program
