"""The whole way from a model to what engines run: lower, rewrite, verify."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from aero.compiler.lower import lower
from aero.compiler.passes import (
    FOLDS,
    Pass,
    centre_residual,
    drop_attention_biases,
    merge_branches,
    merge_linears,
    sink_scalar_gains,
    softmax_base_two,
)  # fmt: skip
from aero.compiler.passes.eliminate_ffn import MAX_CONDITION, Choice, Price, by_products, choose_ffn_form
from aero.compiler.passes.rewrite import until_done
from aero.compiler.positions import decode, prefill, prefix
from aero.compiler.verify import Verification, verify
from aero.graph import Graph, Program
from aero.models import AeroForCausalLM

MAX_PROGRAMS = 256
"""Programs that are kept made: a session asks for one for each number of tokens, which its client chooses."""


@dataclass(frozen=True)
class Stage:
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
    end_tokens: ids after which a text of the model has ended.
    """

    program: Program
    stages: tuple[Stage, ...] = ()
    ffn: Choice | None = None
    verification: Verification | None = None
    end_tokens: tuple[int, ...] = ()
    _programs: dict[tuple[str, int, int], Program] = field(default_factory=dict, repr=False, compare=False)

    @property
    def context(self) -> int:
        return self.program.graph.length

    def every_position(self, length: int) -> Program:
        """The logits [length, V] of all positions of a prompt. ValueError beyond the context."""
        return self._cached("prefix", length, 0, lambda: prefix(self.program, length))

    def prefill(self, length: int, *, leave_state: bool = False) -> Program:
        """The logits [1, V] of a prompt's last position. ValueError beyond the context.

        leave_state: the engine keeps keys and values, for `decode`.
        """
        make = lambda: prefill(self.program, length, leave_state=leave_state)  # noqa: E731
        return self._cached("prefill", length, leave_state, make)

    def decode(self, past: int, length: int = 1) -> Program:
        """The logits [1, V] of the last of `length` tokens after `past` others, from the state that their run left in
        the engine."""
        return self._cached("decode", length, past, lambda: decode(self.program, past, length))

    def _cached(self, kind: str, length: int, past: int, make: Callable[[], Program]) -> Program:
        key = (kind, length, past)
        program = self._programs.pop(key, None) or make()
        self._programs[key] = program  # the last used stand last
        while len(self._programs) > MAX_PROGRAMS:
            del self._programs[next(iter(self._programs))]
        return program


def compile(
    model: AeroForCausalLM,
    context: int | None = None,
    *,
    price: Price = by_products,
    max_condition: float = MAX_CONDITION,
    softmax_base: Literal["e", "2"] = "e",
    form: str | None = None,
    check: bool = True,
) -> Compiled:
    """Compile a model for up to `context` tokens (by default, the model's own). The model is not altered.

    price: what decides between the forms of FFN elimination, by default multiplications.
    max_condition: the largest condition number of a matrix that may be inverted there.
    softmax_base: "2" for engines whose exponential is 2^x. form: of the FFNs, whatever its price.
    check: compare the result with the model, in float64.
    Raises ValueError where the context does not fit, VerificationError if a rewrite were wrong.
    """
    context = model.config.context if context is None else context
    lowered = lower(model, context, every_position=True)
    options: dict[str, Any] = {"price": price, "max_condition": max_condition, "softmax_base": softmax_base}
    program, stages, choice = rewrite(lowered, form=form, **options)
    verification = None
    if check:
        condition = choice.chosen.condition if choice is not None else 1.0
        verification = verify(program, model, lowered=lowered, condition=condition)
    return Compiled(program, stages, choice, verification, model.config.end_tokens)


def rewrite(
    program: Program,
    *,
    price: Price = by_products,
    max_condition: float = MAX_CONDITION,
    softmax_base: Literal["e", "2"] = "e",
    form: str | None = None,
) -> tuple[Program, tuple[Stage, ...], Choice | None]:
    """Every exact pass; the stages that changed something, and the form of the FFNs."""
    choice: Choice | None = None
    steps: list[tuple[str, tuple[Pass, ...]]] = [
        ("constants into weights", ()),
        ("attention biases", (drop_attention_biases,)),
        ("linear layers multiplied", (merge_linears, merge_branches)),
        ("residual gains", (sink_scalar_gains,)),
        ("FFN elimination", (drop_attention_biases,)),  # keys and values get new constants there
        ("centred residual stream", (centre_residual,)),
    ]
    if softmax_base == "2":
        steps.append(("softmax in base 2", (softmax_base_two,)))
    stages = [Stage("as trained", program.graph)]
    for name, passes in steps:
        before = program
        if name == "FFN elimination":  # once: its choice would else be made again among what it has made
            program, choice = choose_ffn_form(program, price=price, max_condition=max_condition, form=form)
        program = until_done(lambda p, passes=passes: _apply((*passes, *FOLDS), p), program)  # type: ignore[misc]
        if program is not before:
            stages.append(Stage(name, program.graph))
    return program, tuple(stages), choice


def _apply(passes: tuple[Pass, ...], program: Program) -> Program:
    for apply_pass in passes:
        program = apply_pass(program)
    return program
